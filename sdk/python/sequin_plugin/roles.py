"""What a plugin can be, and how it becomes a component."""

import json

from . import columns
from .bindings import Err, lifecycle, types
from .bindings import log as engine
from .columns import Answer, Out, Reads, RowError

KEEP, DROP, EVICT = types.Verdict.KEEP, types.Verdict.DROP, types.Verdict.EVICT

_TYPES = {"string": str, "boolean": bool, "integer": int, "object": dict, "array": list}


class ConfigError(Exception):
    """What is wrong with the configuration, for `check` to give back."""

    def __init__(self, field, message):
        super().__init__(field, message)
        self.field, self.message = field, message


class Plugin:
    """What all roles have in common. `self.config` is the configuration."""

    #: The JSON Schema of the configuration. Required and unknown fields of an object are checked by
    #: it, and the types of its fields; what else there is to check is for `check`.
    config_schema = {"type": "object"}

    #: An instance is used for more than one batch, as a promise that nothing it keeps changes an
    #: answer: starting Python anew for each batch costs far more.
    warm = True

    def __init__(self, config):
        self.config = config

    def reads(self):
        """What is to be handed over: `Reads`, or a list of them."""
        return Reads(["*"])

    def check(self):
        """All that is wrong with the configuration: a list of `ConfigError`."""
        return []


class Filter(Plugin):
    """Decides which rows belong to the set. Deletes pass every filter unseen."""

    def filter(self, row):
        """`KEEP`; `EVICT`: it is outside the set; `DROP`: of no interest."""
        raise NotImplementedError


class Transform(Plugin):
    """Changes what is sent for a row."""

    def transform(self, row, out):
        """Says in `out` what becomes of the row."""
        raise NotImplementedError


class Route(Plugin):
    """Says where a row is sent."""

    def route(self, row, sink):
        """A dict of the routing keys of this kind of sink; empty: where the sink sends everything."""
        raise NotImplementedError


def log(message, level="info"):
    """Writes a line to the engine's log: `debug`, `info`, `warn` or `error`."""
    engine.log(engine.Level[level.upper()], message)


def _refused(plugin_class, config):
    """What the schema forbids."""
    schema = plugin_class.config_schema
    if not isinstance(config, dict):
        return [ConfigError("", "expected an object")]
    properties = schema.get("properties", {})
    wrong = [ConfigError(name, "is missing")
             for name in schema.get("required", ()) if name not in config]
    for name, value in config.items():
        if name not in properties:
            if schema.get("additionalProperties", True) is False:
                wrong.append(ConfigError(name, "unknown field"))
            continue
        kind = properties[name].get("type")
        expected = (int, float) if kind == "number" else _TYPES.get(kind)
        is_wrong = expected and not isinstance(value, expected)
        if is_wrong or (isinstance(value, bool) and kind in ("integer", "number")):
            wrong.append(ConfigError(name, f"expected {kind}"))
    return wrong


def configured(plugin_class, text):
    """A plugin with this configuration, or an `Err` with all that is wrong with it."""
    try:
        config = json.loads(text)
    except ValueError:
        raise Err([lifecycle.ConfigError("", "no JSON")]) from None
    wrong = _refused(plugin_class, config)
    plugin = None
    if not wrong:
        plugin = plugin_class(config)
        wrong = plugin.check()
    if wrong:
        raise Err([lifecycle.ConfigError(error.field, error.message) for error in wrong])
    return plugin


def _place(error):
    """The type of an exception and its line, without its text, which may hold values."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    name = type(error).__name__
    if at is None:
        return name
    file = at.tb_frame.f_code.co_filename.rsplit("/", 1)[-1]
    return f"{name} in {file}:{at.tb_lineno} ({at.tb_frame.f_code.co_name})"


def run(batch, judge):
    """The reply to a batch: `judge` fills in what becomes of a row."""
    answer = Answer(len(batch.actions))
    for index, row in enumerate(columns.rows(batch)):
        out = Out()
        try:
            judge(row, out)
        except RowError as error:
            answer.fail(index, error)
        except Exception as error:  # noqa: BLE001 - one row fails alone
            answer.fail(index, RowError(_place(error)))
        else:
            answer.put(index, out)
    return answer.reply()


def judge_of(plugin, sink=""):
    """The way to ask this plugin, by its role."""
    if isinstance(plugin, Transform):
        return plugin.transform

    def judge_filter(row, out):
        verdict = plugin.filter(row)
        if verdict not in (KEEP, DROP, EVICT):
            raise RowError("the filter gave neither KEEP nor DROP nor EVICT")
        out.verdict = verdict

    def judge_route(row, out):
        for key, value in plugin.route(row, sink).items():
            out[key] = value

    return judge_filter if isinstance(plugin, Filter) else judge_route


def export(plugin_class):
    """The classes that componentize-py wants in the module of the plugin: `Lifecycle`, and `Filter`,
    `Transform` or `Route` by what it is."""
    held = {}

    class Lifecycle:
        def describe(self):
            schema = json.dumps(plugin_class.config_schema)
            return lifecycle.Description(schema, [], plugin_class.warm, [])

        def configure(self, config):
            held["plugin"] = plugin = configured(plugin_class, config)
            wanted = plugin.reads()
            wanted = wanted if isinstance(wanted, list) else [wanted]
            reads = [
                lifecycle.Reads(it.table, list(it.columns), list(it.old), list(it.metadata))
                for it in wanted
            ]
            return lifecycle.Requirements(reads, False, [])

    class Judge:
        def run(self, batch):
            return run(batch, judge_of(held["plugin"]))

    class Router:
        def run(self, sink, batch):
            return run(batch, judge_of(held["plugin"], sink))

    return Lifecycle, Router if issubclass(plugin_class, Route) else Judge
