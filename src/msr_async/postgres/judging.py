"""The rules (`advising`) over whole scripts: each is judged by what those before it have done to the tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ..models import Issue, Script
from . import advising
from .facts import Facts, Relation
from .reading import read
from .statements import place
from .steps import (
    AddColumn,
    AddConstraint,
    ChangeType,
    CreateView,
    DropColumn,
    DropRelation,
    Name,
    OtherChange,
    RenameColumn,
    RenameTable,
    SetNotNull,
    SetPath,
    Step,
    ValidateConstraint,
    WriteAll,
)


def lint(script: Script, facts: Facts) -> Iterator[Issue]:
    """The warnings about one script. `facts` follow what it does, so that the next script is read with that in mind."""
    if script.language == "sql":
        yield from judge(script, read(script.text), facts)


def needs_facts(steps: Iterable[Step]) -> bool:
    """Whether any of them can only be judged by what is in the database."""
    return any(not isinstance(step, WriteAll | SetPath | CreateView) for step in steps)


def calls(steps: Iterable[Step]) -> set[str]:
    """The functions that new columns' defaults call."""
    return {call for step in steps if isinstance(step, AddColumn) for call in step.calls}


def names(scripts: Iterable[Sequence[Step]]) -> Iterator[Name]:
    """Every table that is spoken of, under each schema that a SET search_path may put it in."""
    for steps in scripts:
        schemas: tuple[str, ...] = ("",)
        for step in steps:
            if isinstance(step, SetPath):
                schemas = step.schemas or ("",)
            elif step.table.schema:
                yield step.table
            else:
                yield from (Name(schema, step.table.name) for schema in schemas)


def judge(script: Script, steps: Sequence[Step], facts: Facts) -> Iterator[Issue]:
    """The same for a script that was read already."""
    path: tuple[str, ...] | None = None
    views = {step.table.name for step in steps if isinstance(step, CreateView)}
    added: set[tuple[Name, str]] = set()
    locked: tuple[Relation, int] | None = None
    for step in steps:
        if isinstance(step, SetPath):
            path = ("pg_catalog", *step.schemas) if step.schemas else None
        relation = facts.find(step.table, path)
        if relation is None:
            continue
        line, _ = place(script.text, step.offset)
        found = list(advising.findings(step, relation, facts))
        if isinstance(step, DropRelation | DropColumn):
            dropped = {
                other.name
                for item in steps
                if isinstance(item, DropRelation) and (other := facts.find(item.table, path)) is not None
            }
            found += advising.drop(step, relation, facts.gone | dropped)
        elif isinstance(step, RenameTable) and step.table.name not in views:
            found += advising.rename_table(step, relation)
        elif isinstance(step, WriteAll) and locked and script.directives.transaction:
            found += advising.write_all(step, relation, *locked)
        elif isinstance(step, ValidateConstraint) and (relation.name, step.constraint) in added:
            found += advising.validate(step, relation, transaction=script.directives.transaction)
        elif isinstance(step, AddConstraint | SetNotNull) and not step.valid:
            added.add((relation.name, step.constraint))
        for code, message in found:
            yield Issue(code=code, severity="warning", message=message, path=script.path, line=line)
        if locked is None and _is_exclusive(step):
            locked = relation, line
        _follow(step, relation, facts)


def _is_exclusive(step: Step) -> bool:
    """Whether it takes ACCESS EXCLUSIVE, which a transaction keeps to its end."""
    if isinstance(step, OtherChange):
        return step.exclusive
    if isinstance(step, AddConstraint):
        return step.kind != "FOREIGN KEY"
    kinds = (AddColumn, SetNotNull, ChangeType, DropColumn, DropRelation, RenameColumn, RenameTable)
    return isinstance(step, kinds)


def _follow(step: Step, relation: Relation, facts: Facts) -> None:
    """Bring the facts to where the step leaves the database."""
    types, proved, unproved = dict(relation.types), set(relation.not_null), dict(relation.unproved)
    new_name = relation.name
    match step:
        case AddColumn():
            types.setdefault(step.column, " ".join(token.text for token in step.type))
        case ChangeType():
            types[step.column] = step.type_text
        case SetNotNull(valid=True):
            proved.add(step.column)
        case SetNotNull():
            unproved[step.constraint] = (step.column,)
        case AddConstraint(valid=True):
            proved.update(step.not_null)
        case AddConstraint():
            unproved[step.constraint] = step.not_null
        case ValidateConstraint():
            proved.update(unproved.pop(step.constraint, ()))
        case DropColumn():
            types.pop(step.column, None)
            proved.discard(step.column)
        case RenameColumn():
            types[step.to] = types.pop(step.column, "")
            proved = {step.to if column == step.column else column for column in proved}
        case RenameTable():
            new_name = Name(step.to.schema or relation.name.schema, step.to.name)
        case DropRelation():
            facts.gone.add(relation.name)
            del facts.relations[relation.name]
            return
        case _:
            return
    del facts.relations[relation.name]
    facts.relations[new_name] = replace(
        relation, name=new_name, types=types, not_null=frozenset(proved), unproved=unproved
    )
