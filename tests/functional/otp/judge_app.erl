-module(judge_app).
-behaviour(application).
-export([start/2, prep_stop/1, stop/1]).

start(_Type, #{name := Name} = App) ->
    judge:record([app_start, Name]),
    case maps:get(start, App, tree) of
        tree -> {ok, Pid} = judge_sup:start_link(maps:get(tree, App)), {ok, Pid, Name};
        try_tree -> judge_sup:start_link(maps:get(tree, App));
        {error, Reason} -> {error, Reason};
        crash -> error(boom);
        nothing -> nothing
    end.

prep_stop(Name) -> judge:record([prep_stop, shown(Name)]), Name.

stop(Name) -> judge:record([app_stopped, shown(Name)]), ok.

shown([]) -> undefined;
shown(Name) -> Name.
