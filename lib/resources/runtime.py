"""What campaigns answer: GetRecommendations, GetPersonalizedRanking; what it takes for any answer.

A process keeps the campaigns it was asked for.  At each request it looks whether the store has changed; only then it
reads again what may have changed: the campaign's version, imported data, single items and users, this user's events.
"""

import hashlib
import itertools
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import orjson
from sqlalchemy import Connection, Engine, bindparam, select, union_all

from lib import filters
from lib.campaigns import Campaign as Loaded
from lib.campaigns import Promotion, Recommended, Restriction, Visitor, Writing, Written
from lib.exploration import Exploration
from lib.ranking import uniforms
from lib.recipes.recipe import Recipe
from lib.recipes.use_cases import USE_CASES
from lib.resources import datasets, recipes, recommenders, records, serving
from lib.resources.account import Account
from lib.resources.attribution import origin
from lib.resources.campaigns import Campaign
from lib.resources.datasets import Dataset
from lib.resources.errors import InvalidInputException, ResourceNotFoundException, ThrottlingException
from lib.resources.filters import Filter
from lib.resources.lifecycle import MOVING, Status
from lib.resources.recommenders import Recommender
from lib.resources.solution_versions import SolutionVersion, version_files
from lib.store import consumption, events, recommendations, tables
from lib.store.changes import Changes
from lib.store.consumption import Asked
from lib.store.recommendations import Recommendation

NUM_RESULTS, MAX_RESULTS = 25, 500
MAX_RESULTS_WITH_METADATA = 50
MAX_METADATA_COLUMNS = 10
VISITORS = 10_000  # kept per campaign
MINUTE = 60
UNSEEN_SECONDS = 0.005  # for which what a job or another service wrote may not be seen; workers see all at once
USES_PROMOTIONS = ("USER_PERSONALIZATION", "RELATED_ITEMS", "POPULAR_ITEMS")
GIVES_METADATA = ("aws-user-personalization-v2", "aws-personalized-ranking-v2", "aws-semantic-similarity")
NEEDS = {"USER_PERSONALIZATION": ("userId",), "RELATED_ITEMS": ("itemId",)}
RECOMMENDER = ":recommender/"  # in its ARN
OPERATION_OF = {"PERSONALIZED_RANKING": "GetPersonalizedRanking", "PERSONALIZED_ACTIONS": "GetActionRecommendations"}


class Answered(NamedTuple):
    """What was recommended.  item_list: PredictedItems, as JSON or what becomes it.  item_ids: likewise.

    propensities: as ``campaigns.Recommended`` has them.
    """

    item_list: Sequence[Mapping[str, Any]] | orjson.Fragment
    item_ids: Sequence[str] | orjson.Fragment
    propensities: Sequence[float | None] | None


@dataclass(slots=True, kw_only=True)
class Deployment:
    """A campaign as this process knows it.

    documents: what it was read from.  made_of: the version and data that ``loaded`` holds.  stamp: of the store when it
    was last looked at, None to look again in any case.  live: how far the puts of the datasets ``live_in`` had come.
    read: the last put item, user and event that ``loaded`` knows.  now: epoch seconds, the minute of the latest
    interaction.  exploration: how much is explored, None for nothing.  due: epoch seconds at which exploration next
    learns of what came in.  stale_at: epoch seconds from which ``loaded`` is made anew where it is behind, for events
    or records came in.  asked: of users, how often they have asked.  filters: those that were asked for, and what each
    was read from.  answers: what was answered to whom, and until when it is answered again, where the operator wants
    that.
    """

    campaign: Campaign
    recipe: Recipe
    datasets: Mapping[str, Dataset]
    documents: Sequence[bytes]
    made_of: tuple
    loaded: Loaded
    stamp: int | None
    live: Mapping[str, events.Live]
    live_in: Sequence[str]
    read: dict[str, int]
    now: int
    exploration: Exploration | None
    due: float
    stale_at: float
    behind: bool = False
    visitors: OrderedDict[str | None, Visitor] = field(default_factory=OrderedDict)
    asked: OrderedDict[str | None, int] = field(default_factory=OrderedDict)
    filters: dict[str, tuple[Filter, bytes]] = field(default_factory=dict)
    answers: OrderedDict[tuple, tuple[Visitor, float, Answered]] = field(default_factory=OrderedDict)

    def answer(self, asked: tuple, visitor: Visitor, now: float) -> Answered | None:
        """What was answered, where that is not too long ago and the visitor has done nothing since."""
        who, until, answer = self.answers.get(asked, (None, 0.0, None))
        return answer if who is visitor and now < until else None

    def keep(self, asked: tuple, visitor: Visitor, until: float, answer: Answered) -> None:
        """For ``answer``, until then: epoch seconds."""
        self.answers[asked] = (visitor, until, answer)
        if len(self.answers) > VISITORS:
            self.answers.popitem(last=False)

    def outdated(self, now: float) -> bool:
        """Whether the model is to be made anew.  now: epoch seconds."""
        return self.behind and now >= self.stale_at

    def may_give_metadata(self) -> bool:
        config = self.campaign.campaign_config or {}
        return bool(config.get("enableMetadataWithRecommendations")) or self.recipe.name in GIVES_METADATA


class _Process:
    """The campaigns of one open store that this process has loaded."""

    def __init__(self, account: Account):
        self.changes = Changes(account.store, UNSEEN_SECONDS if account.workers == 1 else 0.0)
        self.deployments: dict[str, Deployment] = {}
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.loading = threading.Lock()


_TABLE = tables.resources.c
_DOCUMENTS = union_all(
    select(_TABLE.document).where(_TABLE.arn == bindparam("arn")),
    select(_TABLE.document).where(_TABLE.kind == Dataset.KIND, _TABLE.parent == bindparam("group")),
)
_PROCESSES: WeakKeyDictionary[Engine, _Process] = WeakKeyDictionary()
_OPENING = threading.Lock()
_COUNT = itertools.count()


def get_recommendations(
    account: Account,
    *,
    campaign_arn: str | None = None,
    item_id: str | None = None,
    user_id: str | None = None,
    num_results: int | None = None,
    context: Mapping[str, str] | None = None,
    filter_arn: str | None = None,
    filter_values: Mapping[str, str] | None = None,
    recommender_arn: str | None = None,
    promotions: Sequence[Mapping[str, Any]] | None = None,
    metadata_columns: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Items for a user or session, or items related to an item, best first."""
    if (campaign_arn is None) == (recommender_arn is None):
        raise InvalidInputException("Give exactly one of campaignArn and recommenderArn.")
    length = _length(num_results, metadata_columns)
    if (recommender_arn is not None) != (RECOMMENDER in (campaign_arn or recommender_arn)):
        raise InvalidInputException("campaignArn takes a campaign's ARN, recommenderArn a recommender's.")
    campaign_arn = campaign_arn or recommender_arn
    now = account.now().timestamp()
    deployment = deployed(account, campaign_arn, now)
    recipe = deployment.recipe
    if recipe.recipe_type in OPERATION_OF:
        raise InvalidInputException(f"{campaign_arn} runs {recipe.name}: call {OPERATION_OF[recipe.recipe_type]}.")
    needs = USE_CASES[recipe.name].needs if recommender_arn else NEEDS.get(recipe.recipe_type, ())
    for member, given in (("userId", user_id), ("itemId", item_id)):
        if member in needs and not given:
            raise InvalidInputException(f"{member} is missing: {recipe.name} needs {' and '.join(needs)}.")
    columns = _columns(deployment, metadata_columns)
    promotion = _promotion(account, deployment, promotions, user_id)
    restriction = restriction_of(account, deployment, filter_arn, filter_values, user_id)
    visitor = visitor_of(account, deployment, user_id or None)
    kept_seconds, answer = account.quotas["seconds_to_keep_answers"], None
    if kept_seconds:
        asked = (user_id, item_id, length, filter_arn, orjson.dumps([context, filter_values, promotions, columns]))
        answer = deployment.answer(asked, visitor, now)
    if answer is None:
        random = None
        if promotion is not None or deployment.exploration is not None:
            random = draws(account, deployment, user_id, item_id)
        question = {
            "num_results": length,
            "now": deployment.now,
            "item_id": item_id,
            "context": _context(deployment, context),
            "restriction": restriction,
            "exploration": deployment.exploration,
            "random": random,
        }
        try:
            if promotion is None and not columns:
                answer = _written(deployment.loaded.write(visitor, **question))
            else:
                found = deployment.loaded.recommend(visitor, promotion=promotion, metadata_columns=columns, **question)
                answer = Answered(_item_list(found, recipe, promotion), found.item_ids, found.propensities)
        except filters.FilterError as error:
            raise InvalidInputException(str(error)) from error
        if kept_seconds:
            deployment.keep(asked, visitor, now + kept_seconds, answer)
    recommendation_id = kept(account, campaign_arn, user_id, item_id, answer.item_ids, answer.propensities, now)
    return {"itemList": answer.item_list, "recommendationId": recommendation_id}


def get_personalized_ranking(
    account: Account,
    *,
    campaign_arn: str,
    input_list: Sequence[str],
    user_id: str,
    context: Mapping[str, str] | None = None,
    filter_arn: str | None = None,
    filter_values: Mapping[str, str] | None = None,
    metadata_columns: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """The given items in the order a user or session would like them."""
    most = MAX_RESULTS_WITH_METADATA if metadata_columns else MAX_RESULTS
    if not 1 <= len(input_list) <= most:
        raise InvalidInputException(
            f"inputList holds {len(input_list)} items, expected 1 to {most}"
            f"{' with metadata' if metadata_columns else ''}."
        )
    if not user_id:
        raise InvalidInputException("userId is missing: a ranking is made for a user or session.")
    now = account.now().timestamp()
    deployment = deployed(account, campaign_arn, now)
    recipe = deployment.recipe
    if recipe.recipe_type != "PERSONALIZED_RANKING":
        operation = OPERATION_OF.get(recipe.recipe_type, "GetRecommendations")
        raise InvalidInputException(f"{campaign_arn} runs {recipe.name}: call {operation}.")
    try:
        answer = deployment.loaded.rerank(
            visitor_of(account, deployment, user_id),
            input_list,
            now=deployment.now,
            context=_context(deployment, context),
            restriction=restriction_of(account, deployment, filter_arn, filter_values, user_id),
            metadata_columns=_columns(deployment, metadata_columns),
        )
    except filters.FilterError as error:
        raise InvalidInputException(str(error)) from error
    recommendation_id = kept(account, campaign_arn, user_id, None, answer.item_ids, None, now)
    ranked = [{"itemId": item_id, "score": score} for item_id, score in zip(answer.item_ids, answer.scores)]
    if answer.metadata is not None:
        ranked = [{**item, "metadata": metadata} for item, metadata in zip(ranked, answer.metadata)]
    return {"personalizedRanking": ranked, "recommendationId": recommendation_id}


def _length(num_results: int | None, metadata_columns: Mapping[str, Sequence[str]] | None) -> int:
    length = NUM_RESULTS if num_results is None else num_results
    most = MAX_RESULTS_WITH_METADATA if metadata_columns else MAX_RESULTS
    if length > most:
        raise InvalidInputException(
            f"numResults is {length}, at most {most} can be asked for{' with metadata' if metadata_columns else ''}."
        )
    return length


def _process(account: Account) -> _Process:
    process = _PROCESSES.get(account.store.engine)
    if process is None:
        with _OPENING:
            process = _PROCESSES.get(account.store.engine)
            if process is None:
                process = _PROCESSES[account.store.engine] = _Process(account)
    return process


def deployed(account: Account, arn: str, now: float) -> Deployment:
    """The campaign, ready to answer one more request.  Raises ThrottlingException where it has too many.

    now: epoch seconds.
    """
    process = _process(account)
    deployment = _present(process, account, arn, now)
    # The minimum is promised; above it a campaign may have what the machine's cores can do.
    floor = deployment.campaign.min_provisioned_tps
    rate = max(floor, process.cores * account.quotas["transactions_per_second_per_core"])
    if not account.throttle.take(arn, rate, now):
        raise ThrottlingException(f"{arn} is asked more than {rate:g} times a second; try again in a moment.")
    account.store.commits.later(consumption.add, Asked(consumption.window_of(now), arn, floor))
    return deployment


def provisioned_tps(account: Account) -> int:
    """Requests a second that campaigns and recommenders which can answer have at least, together."""
    with account.store.read() as tx:
        found = [*records.every(tx, account, Campaign)]
        found += [recommenders.as_campaign(one) for one in records.every(tx, account, Recommender)]
    return sum(one.min_provisioned_tps for one in found if one.status is Status.ACTIVE)


def _present(process: _Process, account: Account, arn: str, now: float) -> Deployment:
    """The campaign on the store's present state, and with all that exploration may know of now."""
    stamp = process.changes.stamp()
    known = process.deployments.get(arn)
    if known is not None and known.stamp == stamp and now < known.due and not known.outdated(now):
        return known
    with process.loading, account.store.read() as tx:
        known = process.deployments.pop(arn, None)
        if known is None or known.stamp != stamp or known.outdated(now):
            known = _refreshed(tx, account, arn, known, stamp)
        if now >= known.due:
            known = _updated(tx, account, known, now)
        process.deployments[arn] = known
        return known


def _refreshed(tx: Connection, account: Account, arn: str, known: Deployment | None, stamp: int) -> Deployment:
    """What has changed is read again; what has not is taken over."""
    return _followed(tx, account, known, stamp) or _read(tx, account, arn, known, stamp)


def _followed(tx: Connection, account: Account, known: Deployment | None, stamp: int) -> Deployment | None:
    """With what was put since, which takes no time; None where more than that has changed."""
    if known is None or known.stamp is None or known.documents != _documents(tx, known.campaign):
        return None
    there = records.documents(tx, known.filters) if known.filters else {}
    kept = {arn: found for arn, found in known.filters.items() if there.get(arn) == found[1]}
    live = events.state(tx, known.live_in)
    if live == known.live and not known.behind:
        return replace(known, stamp=stamp, filters=kept)
    known.behind = known.recipe.refreshes
    if known.outdated(account.now().timestamp()):
        return None
    visitors = _take_in(tx, known, live)
    now = _latest(known.loaded, live)
    due = known.due if _period(account) else -math.inf
    return replace(known, stamp=stamp, live=live, now=now, due=due, visitors=visitors, filters=kept)


def _read(tx: Connection, account: Account, arn: str, known: Deployment | None, stamp: int | None) -> Deployment:
    """The campaign as its documents tell; the model and data that a process already has are not loaded again."""
    campaign, recipe, files = _served(tx, account, arn)
    update = campaign.latest_campaign_update
    if campaign.rests is not None or (update is not None and update.status in MOVING):
        stamp = None  # it changes as time goes by, without anybody touching the store
    found = datasets.of_group(tx, account, campaign.dataset_group_arn)
    config = campaign.campaign_config or {}
    made_of = (
        campaign.solution_version_arn,
        config.get("rankingInfluence"),
        *((d.dataset_arn, d.creation_date_time, d.schema_arn, d.parts) for d in found.values()),
    )
    live_in = [name for d in found.values() for name in (d.dataset_arn, events.losses(d.dataset_arn))]
    live = events.state(tx, live_in)
    if known is not None and known.made_of == made_of and not known.outdated(account.now().timestamp()):
        visitors = _take_in(tx, known, live)
        loaded, read, asked, stale_at = known.loaded, known.read, known.asked, known.stale_at
        behind = recipe.refreshes and (known.behind or live != known.live)
    else:
        loaded, read = _load(tx, account, campaign, recipe, files, found)
        visitors, asked, behind = OrderedDict(), OrderedDict(), False
        stale_at = account.now().timestamp() + serving.lasts(recipe, loaded.model)
    return Deployment(
        campaign=campaign,
        recipe=recipe,
        datasets=found,
        documents=_documents(tx, campaign),
        made_of=made_of,
        loaded=loaded,
        stamp=stamp,
        live=live,
        live_in=live_in,
        read=read,
        now=_latest(loaded, live),
        exploration=serving.exploration(recipe, config),
        due=-math.inf,
        stale_at=stale_at,
        behind=behind,
        visitors=visitors,
        asked=asked,
    )


def _updated(tx: Connection, account: Account, known: Deployment, now: float) -> Deployment:
    """Let exploration know of items and events that came in: every two hours, or as the operator has it.

    The model stays as it is.  A version that another one has followed, or that was made by an UPDATE, learns nothing
    more.
    """
    if not known.recipe.explores:
        return replace(known, due=math.inf)
    begin, end = _life(tx, account, known.campaign)
    period = _period(account)
    until, due = end, math.inf
    if period:
        updates = (min(now, end) - begin) // period
        until = begin + (updates * period if updates else 0)
        due = until + period if now < end else math.inf
    dataset = known.datasets.get("INTERACTIONS")
    if dataset is not None:
        answered, known.read["LEARNT"] = events.after(tx, dataset.dataset_arn, known.read["LEARNT"], until)
        known.loaded.learn(answered)
    known.loaded.explore_until(until)
    return replace(known, due=due)


def _period(account: Account) -> float:
    """Seconds between two updates of exploration, 0 to know of everything at once."""
    return 3600 * account.quotas["hours_between_exploration_updates"]


def _life(tx: Connection, account: Account, campaign: Campaign) -> tuple[float, float]:
    """From when to when exploration with a campaign's version learns of what comes in, epoch seconds."""
    if RECOMMENDER in campaign.campaign_arn:
        return campaign.creation_date_time.timestamp(), math.inf
    version = records.get(tx, account, SolutionVersion, campaign.solution_version_arn)
    begin = version.creation_date_time
    if version.training_mode == "UPDATE":
        return begin.timestamp(), begin.timestamp()
    followers = [
        one.last_updated_date_time.timestamp()
        for one in records.every(tx, account, SolutionVersion, version.solution_arn)
        if one.status is Status.ACTIVE and one.creation_date_time > begin
    ]
    return begin.timestamp(), min(followers, default=math.inf)


def _documents(tx: Connection, campaign: Campaign) -> list[bytes]:
    """What the store says about a campaign and the datasets of its group, unread."""
    return tx.execute(_DOCUMENTS, {"arn": campaign.campaign_arn, "group": campaign.dataset_group_arn}).scalars().all()


def _latest(loaded: Loaded, live: Mapping[str, events.Live]) -> int:
    """Epoch seconds of the latest interaction that is known.

    Live ones move it by whole minutes, up, so that what was worked out for a user need not be again at every event.
    """
    newest = [-(-int(one.newest) // MINUTE) * MINUTE for one in live.values() if one.newest is not None]
    return max([loaded.latest, *newest])


def _served(tx: Connection, account: Account, arn: str) -> tuple[Campaign, Recipe, str]:
    """An ACTIVE campaign or recommender, its recipe, and the name of its files.  Raises InvalidInputException."""
    kind = Recommender if RECOMMENDER in arn else Campaign
    try:
        found = records.get(tx, account, kind, arn)
    except ResourceNotFoundException:
        found = None
    if found is None or found.status is not Status.ACTIVE:
        raise InvalidInputException(f"{kind.__name__} with arn {arn} does not exist or is not active yet.")
    if isinstance(found, Recommender):
        return recommenders.as_campaign(found), *recommenders.trained(found)
    version = records.get(tx, account, SolutionVersion, found.solution_version_arn)
    return found, recipes.of_arn(version.recipe_arn), version_files(found.solution_version_arn)


def _load(
    tx: Connection, account: Account, campaign: Campaign, recipe: Recipe, files: str, found: Mapping[str, Dataset]
) -> tuple[Loaded, dict[str, int]]:
    # Puts that come in while the data is read are read twice, which does no harm.
    read = {kind: events.last(tx, dataset.dataset_arn) for kind, dataset in found.items() if kind in ("ITEMS", "USERS")}
    with _in_store(f"The data of {campaign.dataset_group_arn}", "import it again"):
        data = datasets.load(account, campaign.dataset_group_arn, live_interactions=False)
    folder = account.store.files.path(files) / "model"
    with _in_store(f"The model of {campaign.solution_version_arn}", "move the campaign to another version"):
        model = recipe.load(folder)
    config = campaign.campaign_config or {}
    model = serving.prepared(tx, account, campaign.solution_version_arn, recipe, model, config)
    arrivals = datasets.arrivals(account, found.get("INTERACTIONS"))
    loaded = Loaded(recipe, model, data, arrivals, _writing(recipe))
    # Each event is read by visitors when they come; exploration learns from all of them, from the first one on.
    if "INTERACTIONS" in found:
        read["INTERACTIONS"], read["LEARNT"] = events.last_event(tx, found["INTERACTIONS"].dataset_arn), 0
    if recipe.explores and "ITEMS" in found:
        loaded.arrived(events.put_times(tx, found["ITEMS"].dataset_arn))
    return loaded, read


@contextmanager
def _in_store(what: str, remedy: str) -> Iterator[None]:
    """Raise ResourceNotFoundException where files are gone, or damaged, that somebody else than the service touched."""
    try:
        yield
    except FileNotFoundError as error:
        raise ResourceNotFoundException(f"{what} is gone from {error.filename}: bring it back, or {remedy}.") from error
    except ValueError as error:
        raise ResourceNotFoundException(f"{what} cannot be read: {error}; bring it back, or {remedy}.") from error


def _take_in(tx: Connection, known: Deployment, live: Mapping[str, events.Live]) -> OrderedDict[str | None, Visitor]:
    """Let a loaded campaign know what was put since.  Returns the visitors whom that does not concern."""
    changed = {name for name in {*live, *known.live} if live.get(name) != known.live.get(name)}
    of = {kind: dataset.dataset_arn for kind, dataset in known.datasets.items()}
    everybody = any(name not in of.values() for name in changed)  # somebody was taken out
    gone: set[str | None] = set()
    if of.get("ITEMS") in changed:
        before = known.read["ITEMS"]
        rows, known.read["ITEMS"] = events.records(tx, of["ITEMS"], before)
        known.loaded.put_items(rows)
        if known.recipe.explores:
            known.loaded.arrived(events.put_times(tx, of["ITEMS"], before))
        everybody = True  # they may have met the item before
    if of.get("USERS") in changed:
        rows, known.read["USERS"] = events.records(tx, of["USERS"], known.read["USERS"])
        known.loaded.put_users(rows)
        gone |= rows.keys()
    if of.get("INTERACTIONS") in changed:
        answered, known.read["INTERACTIONS"] = events.after(tx, of["INTERACTIONS"], known.read["INTERACTIONS"])
        for event in answered:
            gone.update((event.session_id, event.user_id))
    if everybody:
        return OrderedDict()
    visitors = known.visitors.copy()  # who is still at an older state adds to the older one
    for user_id in gone:
        visitors.pop(user_id, None)
    return visitors


def at_hand(account: Account, members: Mapping[str, Any]) -> bool:
    """Whether ``get_recommendations`` with these members needs next to no time."""
    deployment = _current(account, members)
    if deployment is None:
        return False
    filter_arn = members.get("filter_arn")
    if filter_arn is not None and filter_arn not in deployment.filters:
        return False
    visitor = deployment.visitors.get(members.get("user_id") or None)
    return visitor is not None and deployment.loaded.at_hand(visitor, deployment.now, *_about(deployment, members))


def bring_to_hand(account: Account, asked: Sequence[Mapping[str, Any]]) -> None:
    """Have ``get_recommendations`` with any of these members ``at_hand``: each model is asked once for all of them.

    Nothing is loaded for it: whoever asks for what is not there yet waits for it alone.
    """
    visits: dict[str, tuple[Deployment, list]] = {}
    for members in asked:
        deployment = _current(account, members)
        if deployment is not None:
            visitor = visitor_of(account, deployment, members.get("user_id") or None)
            arn = deployment.campaign.campaign_arn
            visits.setdefault(arn, (deployment, []))[1].append((visitor, *_about(deployment, members)))
    for deployment, its in visits.values():
        deployment.loaded.bring_to_hand(its, deployment.now)


def _about(deployment: Deployment, members: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
    """The item and the context that a request tells of."""
    return members.get("item_id"), _context(deployment, members.get("context"))


def _current(account: Account, members: Mapping[str, Any]) -> Deployment | None:
    """The campaign that is asked, on the store's present state, where that takes no loading."""
    process = _PROCESSES.get(account.store.engine)
    arn = members.get("campaign_arn") or members.get("recommender_arn")
    deployment = None if process is None else process.deployments.get(arn)
    if deployment is None:
        return None
    stamp = process.changes.stamp()
    if deployment.stamp != stamp:
        if not process.loading.acquire(blocking=False):
            return None
        try:
            with account.store.read() as tx:
                deployment = _followed(tx, account, process.deployments.get(arn), stamp)
            if deployment is None:
                return None
            process.deployments[arn] = deployment
        finally:
            process.loading.release()
    return deployment


def visitor_of(account: Account, deployment: Deployment, user_id: str | None) -> Visitor:
    """The user or session with everything done until now."""
    visitor = deployment.visitors.get(user_id)
    if visitor is None:
        dataset = deployment.datasets.get("INTERACTIONS")
        sent: Sequence[events.LiveEvent] = ()
        if user_id is not None and dataset is not None and dataset.dataset_arn in deployment.live:
            with account.store.read() as tx:
                sent = events.newest(tx, dataset.dataset_arn, user_id)
        visitor = deployment.visitors[user_id] = deployment.loaded.visitor(user_id, sent)
        if len(deployment.visitors) > VISITORS:
            deployment.visitors.popitem(last=False)
    if -math.inf < visitor.last_arrival < datasets.remembered_from(account):
        visitor = deployment.visitors[user_id] = visitor.unremembered()
    return visitor


def restriction_of(
    account: Account,
    deployment: Deployment,
    filter_arn: str | None,
    values: Mapping[str, str] | None,
    user_id: str | None,
) -> Restriction | None:
    """The filter a request names, after the use case's own one.

    Raises ResourceNotFoundException, or InvalidInputException where it does not fit.
    """
    case = USE_CASES.get(deployment.recipe.name)
    automatic = case and case.automatic_filter
    if filter_arn is None:
        if values:
            raise InvalidInputException("filterValues were given without filterArn.")
        return Restriction(_parsed(automatic)) if automatic else None
    found, _ = deployment.filters.get(filter_arn, (None, b""))
    if found is None:
        with account.store.read() as tx:
            found = records.get(tx, account, Filter, filter_arn)
            document = records.documents(tx, [filter_arn]).get(filter_arn)
        if found.dataset_group_arn != deployment.campaign.dataset_group_arn:
            raise InvalidInputException(
                f"{filter_arn} belongs to {found.dataset_group_arn}, the campaign to "
                f"{deployment.campaign.dataset_group_arn}: name a filter of that group."
            )
        if found.status is not Status.ACTIVE:
            raise InvalidInputException(f"{filter_arn} is in state {found.status}, it should be ACTIVE.")
        if found.rests is None and document is not None:
            deployment.filters[filter_arn] = (found, document)
    parsed = _parsed(found.filter_expression)
    if not user_id and (parsed.reads("INTERACTIONS") or parsed.reads("CURRENTUSER")):
        raise InvalidInputException(f"userId is missing: {filter_arn} looks at a user: {parsed.text}")
    if automatic:
        parsed = parsed.chained(_parsed(automatic))
    return Restriction(parsed, values or {})


@lru_cache(maxsize=1024)
def _parsed(text: str) -> filters.Filter:
    return filters.parse(text)


def _promotion(
    account: Account,
    deployment: Deployment,
    promotions: Sequence[Mapping[str, Any]] | None,
    user_id: str | None,
) -> Promotion | None:
    if not promotions:
        return None
    if len(promotions) > 1:
        raise InvalidInputException(f"{len(promotions)} promotions were given, a request can have one.")
    recipe = deployment.recipe
    if recipe.recipe_type not in USES_PROMOTIONS or recipe.name == "aws-semantic-similarity":
        raise InvalidInputException(f"{recipe.name} has no promotions.")
    (given,) = promotions
    for name in ("name", "percentPromotedItems", "filterArn"):
        if given.get(name) is None:
            raise InvalidInputException(f"promotions[0].{name} is missing.")
    restriction = restriction_of(account, deployment, given["filterArn"], given.get("filterValues"), user_id)
    return Promotion(given["name"], given["percentPromotedItems"], restriction)


def _columns(deployment: Deployment, given: Mapping[str, Sequence[str]] | None) -> list[str]:
    """The metadata columns an answer shall carry."""
    if not given:
        return []
    if not deployment.may_give_metadata():
        raise InvalidInputException(
            "metadataColumns: the campaign does not return metadata; set enableMetadataWithRecommendations in its "
            "campaignConfig."
        )
    columns: list[str] = []
    schema = deployment.loaded.schemas.get("ITEMS")
    known = {name.upper() for name in schema.columns} if schema is not None else set()
    for dataset_type, names in given.items():
        if dataset_type.upper() != "ITEMS":
            raise InvalidInputException(f"metadataColumns: {dataset_type!r} is no dataset with metadata, give ITEMS.")
        for name in names:
            if name.upper() not in known:
                raise InvalidInputException(
                    f"metadataColumns: ITEMS has no column {name!r}; it has {', '.join(sorted(known)) or 'none'}."
                )
        columns = list(names)
    if len(columns) > MAX_METADATA_COLUMNS:
        raise InvalidInputException(
            f"metadataColumns names {len(columns)} columns, at most {MAX_METADATA_COLUMNS} can be asked for."
        )
    return columns


def _context(deployment: Deployment, given: Mapping[str, str] | None) -> dict[str, str]:
    """Values by column of Interactions; what is no column of it does not matter."""
    schema = deployment.loaded.schemas.get("INTERACTIONS")
    if not given or schema is None:
        return {}
    columns = {name.upper(): name for name in schema.columns}
    return {columns[name.upper()]: value for name, value in given.items() if name.upper() in columns}


def _predicted(recipe: Recipe, item_id: str, score: float | None, explored: bool) -> dict[str, Any]:
    """A PredictedItem."""
    predicted: dict[str, Any] = {"itemId": item_id}
    if score is not None:
        predicted["score"] = score
    if explored and recipe.name == recipes.EXPLORES_BY_ITSELF:
        predicted["reason"] = ["Exploration"]
    return predicted


def _writing(recipe: Recipe) -> Writing:
    """JSON, with a comma behind each item."""
    return Writing(
        lambda *item: orjson.dumps(_predicted(recipe, *item)) + b",",
        lambda item_id: orjson.dumps(item_id) + b",",
    )


def _written(found: Written) -> Answered:
    """Most of an answer's text is the same for each answer to a user."""
    item_list, item_ids = (orjson.Fragment(b"[" + text[:-1] + b"]") for text in (found.items, found.item_ids))
    return Answered(item_list, item_ids, found.propensities)


def _item_list(found: Recommended, recipe: Recipe, promotion: Promotion | None) -> list[dict[str, Any]]:
    n_items = len(found.item_ids)
    told = zip(found.item_ids, found.scores or [None] * n_items, found.explored or [False] * n_items)
    predicted = [_predicted(recipe, *item) for item in told]
    for place, item in enumerate(predicted):
        if found.metadata is not None:
            item["metadata"] = found.metadata[place]
        if found.promoted[place]:
            item["promotionName"] = promotion.name
            if recipe.name == recipes.EXPLORES_BY_ITSELF:
                item["reason"] = ["Promoted item"]
    return predicted


def draws(account: Account, deployment: Deployment, user_id: str | None, item_id: str | None) -> Callable[[], float]:
    """From [0, 1), for one answer: the same for the same events, user and, where it explores, number of the answer.

    Workers count their answers each for itself, and a user who asks two of them shall not be shown one list twice.
    """
    asked, count = deployment.asked, 0
    if deployment.exploration is not None:
        count = asked[user_id] = asked.get(user_id, 0) + 1
        if len(asked) > VISITORS:
            asked.popitem(last=False)
        if account.worker:
            count = f"{count} of {account.worker}"
    changes = sum(one.changes for one in deployment.live.values())
    return uniforms(f"{account.seed}|{deployment.campaign.campaign_arn}|{user_id}|{item_id}|{changes}|{count}").__next__


def kept(
    account: Account,
    campaign_arn: str,
    user_id: str | None,
    item_id: str | None,
    item_ids: Sequence[str] | orjson.Fragment,
    propensities: Sequence[float | None] | None,
    now: float,
) -> str:
    """The id of an answer, under which its list is kept for the events to come.  now: epoch seconds."""
    recommendation_id = _recommendation_id(account, now, campaign_arn, user_id, item_id)
    given = Recommendation(
        recommendation_id=recommendation_id,
        resource_arn=campaign_arn,
        user_id=user_id,
        at=now,
        item_ids=item_ids,
        propensities=propensities,
    )
    account.store.commits.later(recommendations.append, given)
    return recommendation_id


def _recommendation_id(
    account: Account, now: float, campaign_arn: str, user_id: str | None, item_id: str | None
) -> str:
    """Unlike any other: time and count are part of it.  The last six digits stand for the campaign."""
    told = f"{account.seed}|{campaign_arn}|{user_id}|{item_id}|{now}|{next(_COUNT)}"
    # shaped like the end of a UUID; milliseconds come first, for a store finds its place for such ids at once
    drawn = f"{int(now * 1000):011x}{hashlib.sha256(told.encode()).hexdigest()[:9]}"
    return f"RID-{drawn[:2]}-4{drawn[2:5]}-a{drawn[5:8]}-{drawn[8:20]}-CID-{_origin(campaign_arn)}"


_origin = lru_cache(maxsize=1024)(origin)


OPERATIONS = {operation.__name__: operation for operation in (get_recommendations, get_personalized_ranking)}
