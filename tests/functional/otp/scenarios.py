"""What is done to both supervisors, OTP's and ours. Times are milliseconds.

A tree is ``sup(id, [children], strategy...)``, a worker ``worker(id, ...)``. A worker's ``starts`` says what
its first, second ... start does: ``ok``, ``ignore``, ``crash``, ``("error", reason)`` or ``("gate", one of
these)``, which waits for a ``release``; the last one goes for all later starts. Workers trap exits and tell
when they terminate, unless ``trap=False``.
"""

from __future__ import annotations

from typing import Any

Tree = dict[str, Any]
Step = Any


def worker(id: str, **options: Any) -> Tree:
    return {"id": id, **options}


def sup(id: str, children: list[Tree], strategy: str = "one_for_one", **options: Any) -> Tree:
    flags = {
        "strategy": strategy,
        "intensity": options.pop("intensity", 1),
        "period": options.pop("period", 5),
        "auto_shutdown": options.pop("auto_shutdown", "never"),
    }
    return {"id": id, "flags": flags, "children": children, **options}


def three(strategy: str = "one_for_one", **options: Any) -> Tree:
    return sup("root", [worker("a"), worker("b"), worker("c")], strategy, **options)


def significant(id: str, restart: str = "transient", **options: Any) -> Tree:
    return worker(id, restart=restart, significant=True, **options)


WHICH: Step = ("which_children", "root")
COUNT: Step = ("count_children", "root")
FAILS = ("error", "no_luck")

SUPERVISORS: dict[str, list[Step]] = {
    # Starting and stopping
    "children start in order and stop in reverse order": [("start", three()), WHICH, COUNT],
    "one_for_one restarts the failing child alone": [("start", three()), ("crash", "b"), WHICH],
    "one_for_all restarts all children": [("start", three("one_for_all")), ("crash", "b"), WHICH],
    "rest_for_one restarts the failing child and those after it": [
        ("start", three("rest_for_one")),
        ("crash", "b"),
        WHICH,
    ],
    "a failing start rolls back what was started": [
        ("start", sup("root", [worker("a"), worker("b"), worker("c", starts=[FAILS]), worker("d")])),
    ],
    "a crash in init rolls back too": [
        ("start", sup("root", [worker("a"), worker("b", starts=["crash"]), worker("c")])),
    ],
    "a failing start below rolls back the whole tree": [
        (
            "start",
            sup("root", [worker("a"), sup("below", [worker("b"), worker("c", starts=[FAILS])]), worker("d")]),
        ),
    ],
    "a child that ignores its start keeps its spec": [
        ("start", sup("root", [worker("a"), worker("b", starts=["ignore", "ok"]), worker("c")])),
        WHICH,
        COUNT,
        ("restart_child", "root", "b"),
        WHICH,
    ],
    "a temporary child that ignores its start is forgotten": [
        ("start", sup("root", [worker("a"), worker("b", restart="temporary", starts=["ignore"])])),
        WHICH,
    ],
    "a supervisor may ignore its start": [
        ("start", sup("root", [worker("a"), sup("below", [], ignore=True), worker("c")])),
        WHICH,
        COUNT,
    ],
    "two children with one id are refused": [("start", sup("root", [worker("a"), worker("a")]))],
    "a taken name stops the start": [
        ("start", sup("root", [worker("a"), sup("below", [worker("a")])])),
    ],
    # Restart types
    "a permanent child is restarted after any exit": [
        ("start", three(intensity=5)),
        ("ends", "a", "normal"),
        ("ends", "a", "shutdown"),
        ("ends", "a", ("shutdown", "because")),
        ("kill", "a"),
    ],
    "a transient child is restarted after abnormal exits only": [
        ("start", sup("root", [worker(id, restart="transient") for id in "abcd"], intensity=5)),
        ("ends", "a", "normal"),
        ("ends", "b", "shutdown"),
        ("ends", "c", ("shutdown", "because")),
        ("ends", "d", "other"),
        ("crash", "d"),
        WHICH,
        COUNT,
    ],
    "a temporary child is never restarted and forgotten": [
        ("start", sup("root", [worker(id, restart="temporary") for id in "abc"], "one_for_all")),
        ("ends", "a", "normal"),
        ("crash", "b"),
        WHICH,
        COUNT,
        ("terminate_child", "root", "b"),
    ],
    "a temporary child falls with its siblings and is not started again": [
        ("start", sup("root", [worker("a"), worker("b", restart="temporary"), worker("c")], "one_for_all")),
        ("crash", "c"),
        WHICH,
    ],
    "a transient child that ended normally is revived with its siblings": [
        ("start", sup("root", [worker("a"), worker("b", restart="transient"), worker("c")], "one_for_all")),
        ("ends", "b", "normal"),
        WHICH,
        ("crash", "c"),
        WHICH,
    ],
    "one_for_all revives siblings terminated by hand": [
        ("start", three("one_for_all")),
        ("terminate_child", "root", "a"),
        WHICH,
        ("crash", "c"),
        WHICH,
    ],
    "rest_for_one revives later siblings terminated by hand, not earlier ones": [
        ("start", three("rest_for_one")),
        ("terminate_child", "root", "a"),
        ("terminate_child", "root", "c"),
        ("crash", "b"),
        WHICH,
    ],
    # Intensity
    "too many restarts end the supervisor with shutdown": [
        ("start", three(intensity=2)),
        ("crash", "a"),
        ("crash", "b"),
        ("crash", "a"),
    ],
    "the default is one restart in five seconds": [
        ("start", {"id": "root", "flags": {}, "children": [worker("a"), worker("b")]}),
        ("crash", "a"),
        ("crash", "b"),
    ],
    "intensity 0 gives up at the first failure": [("start", three(intensity=0)), ("crash", "b")],
    "restarts long ago do not count": [
        ("start", three(intensity=1, period=1)),
        ("crash", "a"),
        ("sleep", 2100),
        ("crash", "a"),
        ("crash", "a"),
    ],
    "children failing at once count once under one_for_all": [
        ("start", three("one_for_all", intensity=1)),
        ("at_once", "root", ["a", "b", "c"]),
        WHICH,
    ],
    "children failing at once count each under one_for_one": [
        ("start", three(intensity=2)),
        ("at_once", "root", ["a", "b", "c"]),
    ],
    "children failing at once under rest_for_one, the later one first": [
        ("start", three("rest_for_one", intensity=1)),
        ("at_once", "root", ["c", "a"]),
    ],
    "children failing at once under rest_for_one, the earlier one first": [
        ("start", three("rest_for_one", intensity=1)),
        ("at_once", "root", ["a", "c"]),
        WHICH,
    ],
    # Failing restarts
    "a failing restart is tried again at once, each try counts": [
        ("start", sup("root", [worker("a", starts=["ok", FAILS, FAILS, "ok"]), worker("b")], intensity=3)),
        ("crash", "a"),
        WHICH,
    ],
    "a restart that keeps failing ends the supervisor": [
        ("start", sup("root", [worker("a", starts=["ok", FAILS]), worker("b")], intensity=3)),
        ("crash", "a"),
    ],
    "a transient child whose restart fails ends the supervisor too": [
        ("start", sup("root", [worker("a", restart="transient", starts=["ok", FAILS])], intensity=2)),
        ("crash", "a"),
    ],
    "a failing restart under one_for_all leaves earlier siblings up until the next try": [
        (
            "start",
            sup(
                "root",
                [worker("a"), worker("b", starts=["ok", FAILS, FAILS, "ok"]), worker("c")],
                "one_for_all",
                intensity=5,
            ),
        ),
        ("crash", "c"),
        WHICH,
    ],
    "a failing restart under rest_for_one is tried again from the one that failed": [
        (
            "start",
            sup(
                "root",
                [worker("a"), worker("b"), worker("c", starts=["ok", FAILS, FAILS, "ok"]), worker("d")],
                "rest_for_one",
                intensity=5,
            ),
        ),
        ("crash", "b"),
        WHICH,
    ],
    "ignore during a restart stops the tries": [
        ("start", sup("root", [worker("a", starts=["ok", FAILS, "ignore", "ok"]), worker("b")], intensity=5)),
        ("crash", "a"),
        WHICH,
        COUNT,
        ("restart_child", "root", "a"),
    ],
    "terminate_child during a restart ends the tries": [
        ("start", sup("root", [worker("a", starts=["ok", ("gate", FAILS), "ok"])], intensity=5)),
        ("crash_into", "a", 2),
        ("behind", "terminate_child", ["root", "a"]),
        ("release", "a"),
        WHICH,
        ("restart_child", "root", "a"),
    ],
    "restart_child during a restart is refused": [
        ("start", sup("root", [worker("a", starts=["ok", ("gate", FAILS), "ok"])], intensity=5)),
        ("crash_into", "a", 2),
        ("behind", "restart_child", ["root", "a"]),
        ("release", "a"),
        WHICH,
    ],
    "delete_child during a restart is refused": [
        ("start", sup("root", [worker("a", starts=["ok", ("gate", FAILS), "ok"])], intensity=5)),
        ("crash_into", "a", 2),
        ("behind", "delete_child", ["root", "a"]),
        ("release", "a"),
        WHICH,
    ],
    "which_children shows a child that is restarting": [
        ("start", sup("root", [worker("a", starts=["ok", ("gate", FAILS), "ok"])], intensity=5)),
        ("crash_into", "a", 2),
        ("behind", "which_children", ["root"]),
        ("release", "a"),
    ],
    "count_children does not count a child that is restarting as active": [
        ("start", sup("root", [worker("a", starts=["ok", ("gate", FAILS), "ok"])], intensity=5)),
        ("crash_into", "a", 2),
        ("behind", "count_children", ["root"]),
        ("release", "a"),
    ],
    "start_child with the id of a child that is restarting": [
        ("start", sup("root", [worker("a", starts=["ok", ("gate", FAILS), "ok"]), worker("b")], intensity=5)),
        ("crash_into", "a", 2),
        ("behind", "start_child", ["root", worker("a")]),
        ("release", "a"),
        WHICH,
    ],
    # Managing children
    "terminate_child keeps the spec and is fine twice": [
        ("start", three()),
        ("terminate_child", "root", "b"),
        ("terminate_child", "root", "b"),
        WHICH,
        COUNT,
    ],
    "terminate_child forgets a temporary child": [
        ("start", sup("root", [worker("a"), worker("t", restart="temporary")])),
        ("terminate_child", "root", "t"),
        ("terminate_child", "root", "t"),
        ("restart_child", "root", "t"),
        WHICH,
    ],
    "terminate, restart and delete refuse what they must": [
        ("start", three()),
        ("terminate_child", "root", "nobody"),
        ("restart_child", "root", "nobody"),
        ("delete_child", "root", "nobody"),
        ("restart_child", "root", "a"),
        ("delete_child", "root", "a"),
    ],
    "a terminated child can be restarted, deleted and added again": [
        ("start", three()),
        ("terminate_child", "root", "a"),
        ("start_child", "root", worker("a")),
        ("restart_child", "root", "a"),
        ("terminate_child", "root", "a"),
        ("delete_child", "root", "a"),
        ("start_child", "root", worker("a")),
        ("start_child", "root", worker("a")),
        WHICH,
    ],
    "start_child that fails keeps no spec": [
        ("start", three()),
        ("start_child", "root", worker("d", starts=[FAILS, "crash", "ok"])),
        ("start_child", "root", worker("d", starts=[FAILS, "crash", "ok"])),
        ("start_child", "root", worker("d", starts=[FAILS, "crash", "ok"])),
        WHICH,
    ],
    "start_child that is ignored keeps the spec unless temporary": [
        ("start", three()),
        ("start_child", "root", worker("d", starts=["ignore"])),
        ("start_child", "root", worker("e", starts=["ignore"], restart="temporary")),
        ("start_child", "root", worker("d", starts=["ignore"])),
        WHICH,
        COUNT,
    ],
    "restart_child that fails is not tried again and does not count": [
        ("start", sup("root", [worker("a", starts=["ok", FAILS, FAILS, "ok"])], intensity=1)),
        ("terminate_child", "root", "a"),
        ("restart_child", "root", "a"),
        ("restart_child", "root", "a"),
        WHICH,
        ("restart_child", "root", "a"),
        ("crash", "a"),
        WHICH,
    ],
    "a child added later stops first": [
        ("start", three("rest_for_one")),
        ("start_child", "root", worker("d")),
        ("crash", "c"),
        WHICH,
    ],
    "a restarted child keeps its place in the order": [
        ("start", three("rest_for_one", intensity=3)),
        ("terminate_child", "root", "a"),
        ("restart_child", "root", "a"),
        ("crash", "a"),
        WHICH,
    ],
    # Stopping a child
    "brutal_kill does not let a child terminate": [
        ("start", sup("root", [worker("a"), worker("b", shutdown="brutal_kill"), worker("c")])),
        ("terminate_child", "root", "b"),
        WHICH,
    ],
    "a child that does not stop in time is killed": [
        ("start", sup("root", [worker("a"), worker("b", shutdown=50, stubborn=True), worker("c")])),
        ("terminate_child", "root", "b"),
        WHICH,
        ("restart_child", "root", "b"),
    ],
    "a slow child is waited for": [
        ("start", sup("root", [worker("a", slow=30), worker("b", slow=60, shutdown="infinity")])),
        ("terminate_child", "root", "a"),
    ],
    "a child that does not trap exits just dies": [
        (
            "start",
            sup("root", [worker("a", trap=False), worker("b"), worker("c", trap=False)], "one_for_all"),
        ),
        ("crash", "b"),
        ("terminate_child", "root", "c"),
        WHICH,
    ],
    "a child that fails while it is stopped is stopped all the same": [
        ("start", sup("root", [worker("a"), worker("b", last="oops"), worker("c")], "one_for_all")),
        ("crash", "c"),
        ("terminate_child", "root", "b"),
        WHICH,
    ],
    "a stubborn sibling holds up one_for_all until it is killed": [
        (
            "start",
            sup("root", [worker("a", shutdown=50, stubborn=True), worker("b"), worker("c")], "one_for_all"),
        ),
        ("crash", "c"),
        WHICH,
    ],
    # Trees
    "a supervisor that gives up is restarted by its parent": [
        (
            "start",
            sup("root", [worker("a"), sup("below", [worker("b"), worker("c")], intensity=1), worker("d")]),
        ),
        ("crash", "b"),
        ("crash", "b"),
        WHICH,
        ("which_children", "below"),
    ],
    "giving up travels upwards level by level": [
        (
            "start",
            sup(
                "root", [sup("middle", [sup("below", [worker("a")], intensity=0)], intensity=0)], intensity=0
            ),
        ),
        ("crash", "a"),
    ],
    "a transient supervisor that gives up is not restarted": [
        (
            "start",
            sup("root", [worker("a"), sup("below", [worker("b")], intensity=0, restart="transient")]),
        ),
        ("crash", "b"),
        WHICH,
        COUNT,
    ],
    "rest_for_one over supervisors": [
        (
            "start",
            sup(
                "root",
                [
                    sup("s1", [worker("a")]),
                    sup("s2", [worker("b"), worker("c")], intensity=0),
                    sup("s3", [worker("d")]),
                ],
                "rest_for_one",
            ),
        ),
        ("crash", "b"),
        WHICH,
        COUNT,
    ],
    "terminate_child of a supervisor stops its tree in reverse order": [
        (
            "start",
            sup("root", [sup("s1", [worker("a"), worker("b")]), sup("s2", [worker("c"), worker("d")])]),
        ),
        ("terminate_child", "root", "s1"),
        ("restart_child", "root", "s1"),
        COUNT,
    ],
    "killing a supervisor takes its children along": [
        ("start", sup("root", [sup("below", [worker("a"), worker("b", trap=False)]), worker("c")])),
        ("kill", "below"),
        WHICH,
    ],
    # Automatic shutdown
    "any_significant: the end of one significant child ends the supervisor": [
        (
            "start",
            sup("root", [worker("a"), significant("b"), significant("c")], auto_shutdown="any_significant"),
        ),
        ("ends", "b", "normal"),
    ],
    "all_significant: the end of the last significant child ends the supervisor": [
        (
            "start",
            sup("root", [worker("a"), significant("b"), significant("c")], auto_shutdown="all_significant"),
        ),
        ("ends", "b", "normal"),
        WHICH,
        ("ends", "c", "shutdown"),
    ],
    "a significant transient child that crashes is restarted": [
        ("start", sup("root", [worker("a"), significant("b")], auto_shutdown="any_significant")),
        ("crash", "b"),
        WHICH,
        ("ends", "b", ("shutdown", "done")),
    ],
    "a significant temporary child that crashes ends the supervisor": [
        ("start", sup("root", [worker("a"), significant("b", "temporary")], auto_shutdown="any_significant")),
        ("crash", "b"),
    ],
    "terminate_child of a significant child does not end the supervisor": [
        ("start", sup("root", [worker("a"), significant("b")], auto_shutdown="any_significant")),
        ("terminate_child", "root", "b"),
        WHICH,
        ("restart_child", "root", "b"),
        ("ends", "b", "normal"),
    ],
    "a sibling's restart that stops a significant child does not end the supervisor": [
        (
            "start",
            sup(
                "root",
                [worker("a"), significant("b", "temporary")],
                "one_for_all",
                auto_shutdown="any_significant",
            ),
        ),
        ("crash", "a"),
        WHICH,
    ],
    "an insignificant child may end under auto_shutdown": [
        (
            "start",
            sup(
                "root", [worker("a", restart="transient"), significant("b")], auto_shutdown="any_significant"
            ),
        ),
        ("ends", "a", "normal"),
        WHICH,
    ],
    "significant without auto_shutdown is refused": [
        ("start", sup("root", [worker("a"), significant("b")])),
        ("start", three()),
        ("start_child", "root", significant("d")),
    ],
    "a significant supervisor that shuts itself down does the same to its parent": [
        (
            "start",
            sup(
                "root",
                [
                    worker("a"),
                    sup(
                        "below",
                        [worker("b"), significant("c")],
                        auto_shutdown="any_significant",
                        restart="transient",
                        significant=True,
                    ),
                ],
                auto_shutdown="any_significant",
            ),
        ),
        ("ends", "c", "normal"),
    ],
    # simple_one_for_one
    "dynamic children come, crash, end and go": [
        ("start", sup("root", [worker("template", restart="transient")], "simple_one_for_one", intensity=3)),
        WHICH,
        COUNT,
        ("start_dynamic", "root", {"id": "a"}),
        ("start_dynamic", "root", {"id": "b"}),
        ("crash", "a"),
        ("ends", "b", "normal"),
        WHICH,
        COUNT,
        ("terminate_dynamic", "root", "a"),
        ("terminate_dynamic", "root", "a"),
        COUNT,
    ],
    "a simple_one_for_one supervisor refuses ids": [
        ("start", sup("root", [worker("template")], "simple_one_for_one")),
        ("start_dynamic", "root", {"id": "a"}),
        ("terminate_child", "root", "a"),
        ("restart_child", "root", "a"),
        ("delete_child", "root", "a"),
        ("terminate_child", "root", "template"),
    ],
    "dynamic children that fail or ignore their start leave nothing": [
        ("start", sup("root", [worker("template")], "simple_one_for_one")),
        ("start_dynamic", "root", {"id": "a", "starts": [FAILS]}),
        ("start_dynamic", "root", {"id": "b", "starts": ["ignore"]}),
        ("start_dynamic", "root", {"id": "c", "starts": ["crash"]}),
        WHICH,
        COUNT,
    ],
    "a dynamic child's failing restart is tried again": [
        ("start", sup("root", [worker("template")], "simple_one_for_one", intensity=4)),
        ("start_dynamic", "root", {"id": "a", "starts": ["ok", FAILS, FAILS, "ok"]}),
        ("start_dynamic", "root", {"id": "b"}),
        ("crash", "a"),
        WHICH,
        COUNT,
    ],
    "dynamic children that keep failing end the supervisor": [
        ("start", sup("root", [worker("template", trap=False)], "simple_one_for_one", intensity=2)),
        ("start_dynamic", "root", {"id": "a", "starts": ["ok", FAILS]}),
        ("start_dynamic", "root", {"id": "b"}),
        ("crash", "a"),
    ],
    "temporary dynamic children are never restarted": [
        ("start", sup("root", [worker("template", restart="temporary")], "simple_one_for_one")),
        ("start_dynamic", "root", {"id": "a"}),
        ("start_dynamic", "root", {"id": "b"}),
        ("crash", "a"),
        WHICH,
        COUNT,
    ],
    "terminating a dynamic child during its restart ends the tries": [
        ("start", sup("root", [worker("template")], "simple_one_for_one", intensity=5)),
        ("start_dynamic", "root", {"id": "a", "starts": ["ok", ("gate", FAILS), "ok"]}),
        ("crash_into", "a", 2),
        ("behind", "terminate_dynamic", ["root", "a"]),
        ("release", "a"),
        WHICH,  # not COUNT: OTP 25 miscounts here and says that -1 children are active
    ],
    "a dynamic supervisor with auto_shutdown ends with its last child": [
        (
            "start",
            sup(
                "root",
                [significant("template", "temporary")],
                "simple_one_for_one",
                auto_shutdown="all_significant",
            ),
        ),
        ("start_dynamic", "root", {"id": "a"}),
        ("start_dynamic", "root", {"id": "b"}),
        ("ends", "a", "normal"),
        WHICH,
        ("crash", "b"),
    ],
    "dynamic children are stopped at once and share one timeout": [
        ("start", sup("root", [worker("template", shutdown=60, trap=True)], "simple_one_for_one")),
        ("start_dynamic", "root", {"id": "a", "stubborn": True}),
        ("start_dynamic", "root", {"id": "b", "slow": 20}),
        ("start_dynamic", "root", {"id": "c", "stubborn": True}),
    ],
    "two templates are refused": [
        ("start", sup("root", [worker("a"), worker("b")], "simple_one_for_one")),
    ],
}


def app(name: str, *needs: str, **options: Any) -> Step:
    tree = sup(f"{name}_sup", [worker(f"{name}_w")], **options.pop("flags", {}))
    return ("load", {"name": name, "applications": list(needs), "tree": tree, **options})


APPLICATIONS: dict[str, list[Step]] = {
    "start and stop call prep_stop before and stop after the tree is gone": [
        app("one"),
        ("app_start", "one", "temporary"),
        "app_which",
        ("app_start", "one", "temporary"),
        ("app_stop", "one"),
        ("app_stop", "one"),
        ("app_start", "one", "temporary"),
    ],
    "what it depends on must be started": [
        app("one"),
        app("two", "one"),
        ("app_start", "two", "temporary"),
        ("app_start", "one", "temporary"),
        ("app_start", "two", "temporary"),
        "app_which",
    ],
    "ensure_all_started starts dependencies first": [
        app("one"),
        app("two", "one"),
        app("three", "one", "two"),
        ("app_ensure", "three", "temporary"),
        ("app_ensure", "three", "temporary"),
        "app_which",
        ("app_stop", "two"),
        "app_which",
        ("app_ensure", "three", "temporary"),
        ("app_stop", "three"),
        ("app_ensure", "three", "temporary"),
        ("app_stop", "three"),
        ("app_stop", "two"),
        ("app_stop", "one"),
    ],
    "ensure_all_started stops only what it started when one fails": [
        app("one"),
        app("two", "one"),
        app("three", "two"),
        app("four", "three", start=("error", "no_luck")),
        ("app_start", "one", "temporary"),
        ("app_ensure", "four", "temporary"),
        "app_which",
    ],
    "a stop does not look at dependents": [
        app("one"),
        app("two", "one"),
        ("app_ensure", "two", "temporary"),
        ("app_stop", "one"),
        "app_which",
        ("app_stop", "two"),
    ],
    "an optional dependency may be missing": [
        ("load", {**app("one", "missing")[1], "optional": ["missing"]}),
        ("app_ensure", "one", "temporary"),
        "app_which",
    ],
    "a library application has no processes": [
        ("load", {"name": "lib", "library": True}),
        app("one", "lib"),
        ("app_start", "one", "temporary"),
        ("app_ensure", "one", "temporary"),
        "app_which",
        ("app_stop", "lib"),
        ("app_stop", "one"),
    ],
    "a start that fails, crashes or returns nonsense is an error": [
        app("bad", start=("error", "no_luck")),
        app("worse", start="crash"),
        app("odd", start="nothing"),
        app("broken", start="try_tree"),
        ("app_start", "bad", "temporary"),
        ("app_start", "worse", "temporary"),
        ("app_start", "odd", "temporary"),
        ("app_start", "broken", "temporary"),
        "app_which",
        ("app_stop", "bad"),
    ],
    "a failing child fails the application": [
        (
            "load",
            {
                "name": "one",
                "start": "try_tree",
                "tree": sup("one_sup", [worker("a"), worker("b", starts=[FAILS])]),
            },
        ),
        ("app_start", "one", "temporary"),
        "app_which",
    ],
    "a temporary application may end by itself": [
        app("one", flags={"intensity": 0}),
        app("two", "one"),
        ("app_ensure", "two", "temporary"),
        ("crash", "one_w"),
        "app_which",
        ("app_start", "one", "temporary"),
        "app_which",
        ("crash", "one_w"),
        ("app_stop", "one"),
        ("app_stop", "one"),
    ],
    "a transient application whose top supervisor ends normally is only reported": [
        app("one"),
        ("app_start", "one", "transient"),
        ("app_stop", "one"),
        "app_which",
    ],
    "start types are checked": [app("one"), ("app_start", "one", "sometimes")],
    "a started dependency that has ended is not running": [
        app("one", flags={"intensity": 0}),
        app("two", "one"),
        ("app_start", "one", "temporary"),
        ("crash", "one_w"),
        ("app_start", "two", "temporary"),
        "app_which",
    ],
}

# In these the end of an application ends everything: OTP's node goes down, so each has one of its own.
DOWN: dict[str, list[Step]] = {
    "a permanent application that ends takes everything down, the latest first": [
        app("one"),
        app("two", "one", flags={"intensity": 0}),
        app("three", "two"),
        ("app_ensure", "one", "temporary"),
        ("app_ensure", "two", "permanent"),
        ("app_ensure", "three", "temporary"),
        ("goes_down", "two_w"),
    ],
    "a transient application whose top supervisor gives up takes everything down": [
        app("one", flags={"intensity": 0}),
        app("two"),
        ("app_ensure", "one", "transient"),
        ("app_ensure", "two", "temporary"),
        ("goes_down", "one_w"),
    ],
}
