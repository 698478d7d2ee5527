%% Runs scenarios against Erlang/OTP's own supervisor and application modules and writes down what happened,
%% one JSON array a line: ["scenario", Name], then events and the results of steps in their order.
-module(judge).
-export([main/1, record/1, next_start/2, script/2]).

main([In, Out]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    {ok, Scenarios} = file:consult(In),
    ets:new(judge, [named_table, public]),
    Recorder = spawn(fun() -> {ok, File} = file:open(Out, [write, raw]), recorder(File) end),
    register(judge_recorder, Recorder),
    lists:foreach(fun run/1, Scenarios),
    record([finished]),
    halt(0).

%% The recorder: one order for everything.

recorder(File) ->
    receive
        {From, Ref, Event} ->
            ok = file:write(File, [json(Event), $\n]),
            From ! {Ref, ok},
            recorder(File)
    end.

record(Event) ->
    Ref = make_ref(),
    ets:update_counter(judge, events, 1, {events, 0}),
    judge_recorder ! {self(), Ref, Event},
    receive
        {Ref, ok} -> ok
    after 10000 -> halt(3)
    end.

events() -> ets:update_counter(judge, events, 0, {events, 0}).

%% How often a worker was started, and what the next start is to do.

next_start(Id, Pid) ->
    [ets:insert(judge, {{old, Id}, Old}) || {_, Old} <- ets:lookup(judge, {pid, Id})],
    ets:insert(judge, {{pid, Id}, Pid}),
    ets:update_counter(judge, {starts, Id}, 1, {{starts, Id}, 0}).

starts(Id) -> ets:update_counter(judge, {starts, Id}, 0, {{starts, Id}, 0}).

script(N, Script) when N =< length(Script) -> lists:nth(N, Script);
script(_, Script) -> lists:last(Script).

%% Scenarios

run(#{name := Name, steps := Steps}) ->
    ets:delete_all_objects(judge),
    record([scenario, Name]),
    put(root, undefined),
    put(sups, []),
    put(apps, []),
    lists:foreach(fun(Step) -> step(Step), settle(Step), exits() end, Steps),
    case is_pid(get(root)) andalso is_process_alive(get(root)) of
        true ->
            record([step, stop]),
            exit(get(root), shutdown),
            wait_gone(get(root)),
            settle(stop),
            exits();
        false -> ok
    end,
    lists:foreach(fun(App) -> application:stop(App) end, get(apps)),
    lists:foreach(fun(App) -> application:unload(App) end, get(apps)),
    record([left, alive()]).

step({start, Tree} = _Step) ->
    put(sups, sup_ids(Tree)),
    record([step, start]),
    Result = judge_sup:start_link(Tree),
    case Result of {ok, Pid} -> put(root, Pid), put(root_id, maps:get(id, Tree)); _ -> ok end,
    result(Result);
step({ends, Id, Reason}) ->
    record([step, ends, Id, Reason]),
    down(Id, fun(Pid) -> gen_server:cast(Pid, {stop, Reason}) end);
step({crash, Id}) ->
    record([step, crash, Id]),
    down(Id, fun(Pid) -> gen_server:cast(Pid, crash) end);
step({kill, Id}) ->
    record([step, kill, Id]),
    down(Id, fun(Pid) -> exit(Pid, kill) end);
step({at_once, Sup, Ids}) ->
    %% The supervisor finds all these exits in its mailbox.
    record([step, at_once, Ids]),
    ok = sys:suspend(whereis(Sup)),
    [down(Id, fun(Pid) -> exit(Pid, kill) end) || Id <- Ids],
    ok = sys:resume(whereis(Sup));
step({crash_into, Id, N}) ->
    %% Its next start does not come back, so do not wait for the supervisor, only for start number N.
    record([step, crash_into, Id]),
    gen_server:cast(whereis(Id), crash),
    wait_until(fun() -> starts(Id) >= N end);
step({behind, Operation, Args}) ->
    %% Ask a supervisor that is busy; the answer is shown when all has settled.
    [Sup | _] = Args,
    Pid = whereis(Sup),
    Length = queue_length(Pid),
    spawn(fun() ->
        Result = behind(Operation, Args),
        ets:insert(judge, {answer, [answer, Operation, shown(Result)]})
    end),
    wait_until(fun() -> queue_length(Pid) > Length end);
step({release, Id}) ->
    record([step, release, Id]),
    whereis(Id) ! go;
step({sleep, Ms}) ->
    timer:sleep(Ms);
step({start_child, Sup, Spec}) ->
    record([step, start_child, Sup, maps:get(id, Spec)]),
    put(sups, get(sups) ++ sup_ids(Spec)),
    result(supervisor:start_child(Sup, judge_sup:spec(Spec)));
step({start_dynamic, Sup, Extra}) ->
    record([step, start_dynamic, Sup]),
    result(supervisor:start_child(Sup, [Extra]));
step({terminate_dynamic, Sup, Id}) ->
    record([step, terminate_dynamic, Sup, Id]),
    [{_, Pid}] = ets:lookup(judge, {pid, Id}),
    result(supervisor:terminate_child(Sup, Pid));
step({Operation, Sup, Id}) when Operation =:= terminate_child; Operation =:= restart_child;
                                Operation =:= delete_child ->
    record([step, Operation, Sup, Id]),
    result(supervisor:Operation(Sup, Id));
step({which_children, Sup}) ->
    record([step, which_children, Sup]),
    result(supervisor:which_children(Sup));
step({count_children, Sup}) ->
    record([step, count_children, Sup]),
    result(supervisor:count_children(Sup));
step({load, #{name := Name} = App}) ->
    put(apps, [Name | get(apps)]),
    Keys = [{applications, maps:get(applications, App, [])},
            {optional_applications, maps:get(optional, App, [])} |
            case App of #{library := true} -> []; _ -> [{mod, {judge_app, App}}] end],
    ok = application:load({application, Name, Keys});
step({app_start, Name, Type}) ->
    record([step, app_start, Name, Type]),
    result(application:start(Name, Type));
step({app_ensure, Name, Type}) ->
    record([step, app_ensure, Name, Type]),
    result(application:ensure_all_started(Name, Type));
step({app_stop, Name}) ->
    record([step, app_stop, Name]),
    result(application:stop(Name));
step(app_which) ->
    record([step, app_which]),
    Running = [Name || {Name, _, _} <- application:which_applications()],
    record([result, [Name || Name <- Running, lists:member(Name, get(apps))]]);
step({goes_down, Id}) ->
    %% The node ends: nothing after this comes back.
    record([step, goes_down, Id]),
    exit(whereis(Id), kill),
    timer:sleep(10000),
    record([result, still_up]).

behind(start_child, [Sup, Spec]) -> supervisor:start_child(Sup, judge_sup:spec(Spec));
behind(terminate_dynamic, [Sup, Id]) ->
    %% By the process that ended; the one being started is not known to the supervisor yet.
    [{_, Pid}] = ets:lookup(judge, {old, Id}),
    supervisor:terminate_child(Sup, Pid);
behind(Operation, Args) -> apply(supervisor, Operation, Args).

result(Result) -> record([result, shown(Result)]).

down(Id, Act) ->
    Pid = whereis(Id),
    Ref = monitor(process, Pid),
    Act(Pid),
    receive {'DOWN', Ref, process, Pid, _} -> ok after 5000 -> record([not_ended, Id]) end.

exits() ->
    receive
        {'EXIT', Pid, Reason} ->
            case Pid =:= get(root) of
                true -> record([root_exit, reason(Reason)]);
                false -> ok
            end,
            exits()
    after 0 -> ok
    end.

wait_gone(Pid) ->
    Ref = monitor(process, Pid),
    receive {'DOWN', Ref, process, Pid, _} -> ok end.

queue_length(Pid) ->
    {message_queue_len, N} = process_info(Pid, message_queue_len),
    N.

wait_until(Condition) ->
    case Condition() of
        true -> ok;
        false -> timer:sleep(1), wait_until(Condition)
    end.

%% Until nothing happens any more: all supervisors have answered, every process waits with an empty mailbox,
%% and no event came meanwhile, three times over.

settle({Step, _, _}) when Step =:= crash_into; Step =:= behind -> ok;
settle(_) -> settle_loop(events(), 3).

settle_loop(Events, 0) ->
    [record(Answer) || {_, Answer} <- ets:take(judge, answer)],
    record([alive, alive()]),
    Events;
settle_loop(Events, N) ->
    lists:foreach(fun(Sup) -> catch supervisor:count_children(Sup) end, get(sups)),
    _ = application:which_applications(),
    timer:sleep(2),
    case {events(), idle()} of
        {Events, true} -> settle_loop(Events, N - 1);
        {More, _} -> settle_loop(More, 3)
    end.

idle() ->
    lists:all(fun(Pid) -> Pid =:= self() orelse waits(process_info(Pid, [status, message_queue_len])) end,
              processes()).

waits(undefined) -> true;
waits([{status, waiting}, {message_queue_len, 0}]) -> true;
waits(_) -> false.

alive() ->
    lists:sort([[Id, N] || {{starts, Id}, N} <- ets:tab2list(judge), whereis(Id) =/= undefined]).

sup_ids(#{children := Children, id := Id}) -> [Id | lists:append([sup_ids(Child) || Child <- Children])];
sup_ids(_) -> [].

%% How results are shown

shown(ok) -> ok;
shown(ignore) -> ignore;
shown({ok, undefined}) -> [ok, undefined];
shown({ok, Pid}) when is_pid(Pid) -> [ok, pid];
shown({ok, List}) when is_list(List) -> [ok, List];
shown({error, {What, Child}}) when element(1, Child) =:= child -> [error, reason(What)];
shown({error, Reason}) -> [error, reason(Reason)];
shown([{specs, _} | _] = Counts) -> [N || {_, N} <- Counts];
shown(List) when is_list(List) -> [[Id, child(Child), Type] || {Id, Child, Type, _} <- List].

child(Pid) when is_pid(Pid) -> pid;
child(Other) -> Other.

reason({boom, Stack}) when is_list(Stack) -> crash;
reason({'EXIT', {boom, _}}) -> crash;
reason(Pid) when is_pid(Pid) -> pid;
reason({bad_return, {{M, F, _}, Other}}) when is_atom(M) -> [bad_return, F, reason(Other)];
reason({M, start, Args}) when is_atom(M), is_list(Args) -> start;
reason(Tuple) when is_tuple(Tuple) -> [reason(Item) || Item <- tuple_to_list(Tuple)];
reason(Map) when is_map(Map) -> maps:get(id, Map);
reason(List) when is_list(List) -> [reason(Item) || Item <- List];
reason(Other) -> Other.

json(undefined) -> "null";
json(true) -> "true";
json(false) -> "false";
json(Atom) when is_atom(Atom) -> [$", atom_to_list(Atom), $"];
json(Number) when is_integer(Number) -> integer_to_list(Number);
json(Tuple) when is_tuple(Tuple) -> json(tuple_to_list(Tuple));
json(List) when is_list(List) -> [$[, lists:join($,, [json(Item) || Item <- List]), $]].
