-module(judge_sup).
-behaviour(supervisor).
-export([start_link/1, init/1, spec/1]).

start_link(#{id := Id} = Tree) -> supervisor:start_link({local, Id}, ?MODULE, Tree).

init(#{ignore := true}) -> ignore;
init(#{id := Id, flags := Flags, children := Children}) ->
    judge:record([sup_init, Id]),
    {ok, {Flags, [spec(Child) || Child <- Children]}}.

spec(#{children := _} = Tree) ->
    (common(Tree))#{start => {?MODULE, start_link, [Tree]}, type => supervisor};
spec(Worker) ->
    (common(Worker))#{start => {judge_worker, start_link, [Worker]}}.

common(Child) -> maps:with([id, restart, shutdown, significant], Child).
