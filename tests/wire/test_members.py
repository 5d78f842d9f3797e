"""Every operation and every member of the three services: accepted and returned, or listed with a reason.

The service models say what there is; ``Tour`` uses all of it; ``unavailable.yaml`` lists what it cannot use.
"""

from pathlib import Path

import pytest
import yaml

from lib.service import model
from tests.wire.members import ANSWER, REQUEST, described
from tests.wire.tour import Tour

OPERATIONS = sorted(name for _, name in model.operations())
RENAMED = {  # described under the name it was created with, but in other words
    "CreateCampaign.solutionVersionArn",  # $LATEST became a version
    "CreateDataset.datasetType",  # upper case
}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        tour = Tour(tmp_path_factory.mktemp("tour"), monkeypatch)
        tour.go()
        yield tour.recording
        tour.workflow.account.store.close()


@pytest.fixture(scope="module")
def seen(recording):
    return recording.seen()


def entries():
    """The listed members: (way, member, reason)."""
    listed = yaml.safe_load((Path(__file__).parent / "unavailable.yaml").read_text())
    return [
        (way, member, entry["reason"])
        for entry in listed
        for way in (REQUEST, ANSWER)
        for member in entry.get(f"{way}s", ())
    ]


def covered(way, member):
    """The described members that a listed one stands for."""
    return {path for path in described()[way] if f"{path}.".startswith(f"{member}.")}


def test_there_are_79_operations():
    assert len(OPERATIONS) == 79


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_member_of_an_operation_works_or_is_listed(operation, seen):
    for way in (REQUEST, ANSWER):
        listed = set().union(*(covered(one, member) for one, member, _ in entries() if one == way))
        missing = {path for path in described()[way] if path.split(".")[0] == operation} - seen[way] - listed
        assert sorted(missing) == [], f"{operation} never carried these in its {way}"


def test_the_list_names_what_there_is_once_and_with_a_reason():
    named = [path for way, member, _ in entries() for path in [(way, one) for one in covered(way, member)]]
    assert len(named) == len(set(named))
    assert [member for way, member, reason in entries() if not covered(way, member) or not reason] == []


def test_nothing_on_the_list_works(seen):
    assert [(way, path) for way, member, _ in entries() for path in sorted(covered(way, member) & seen[way])] == []


def test_every_operation_is_called_or_listed_whole(recording):
    listed = {member for way, member, _ in entries() if way == REQUEST and "." not in member}
    assert sorted(set(OPERATIONS) - set(recording.calls)) == sorted(listed)


CREATES = [name for name in OPERATIONS if name.startswith("Create")]


@pytest.mark.parametrize("create", CREATES)
def test_what_something_is_created_with_is_what_it_is_described_with(create, recording):
    compared = 0
    for request, answer in recording.calls[create]:
        arns = [value for member, value in answer.items() if member.endswith("Arn")]
        for asked, told in recording.calls[create.replace("Create", "Describe")]:
            if list(asked.values()) != arns:
                continue
            (resource,) = told.values()
            for member in request.keys() & resource.keys():
                if f"{create}.{member}" not in RENAMED:
                    assert resource[member] == request[member], member
                    compared += 1
            break  # the first description: later ones may show updates
    assert compared >= 2
