"""What several test folders share: servers, databases, and the torture database with its comparer."""
