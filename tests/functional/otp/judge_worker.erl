%% A worker that does at its start what its script says, and tells when it starts and terminates.
-module(judge_worker).
-behaviour(gen_server).
-export([start_link/1, start_link/2, init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

start_link(Worker, Extra) -> start_link(maps:merge(Worker, Extra)).

start_link(#{id := Id} = Worker) -> gen_server:start_link({local, Id}, ?MODULE, Worker, []).

init(#{id := Id} = Worker) ->
    process_flag(trap_exit, maps:get(trap, Worker, true)),
    N = judge:next_start(Id, self()),
    Act = judge:script(N, maps:get(starts, Worker, [ok])),
    judge:record([start, Id, N]),
    begin_with(Act, Worker).

begin_with(ok, Worker) -> {ok, Worker};
begin_with(ignore, _) -> ignore;
begin_with(crash, _) -> error(boom);
begin_with({error, Reason}, _) -> {stop, Reason};
begin_with({gate, Act}, Worker) -> receive go -> begin_with(Act, Worker) end.

handle_call(_, _, Worker) -> {reply, ok, Worker}.

handle_cast({stop, Reason}, Worker) -> {stop, Reason, Worker};
handle_cast(crash, _) -> error(boom).

handle_info(_, Worker) -> {noreply, Worker}.

terminate(Reason, #{id := Id} = Worker) ->
    Shown = case Reason of {boom, _} -> crash; _ -> Reason end,
    judge:record([terminate, Id, Shown]),
    case Worker of
        #{stubborn := true} -> receive never -> ok end;
        #{slow := Ms} -> timer:sleep(Ms), judge:record([terminated, Id]);
        #{last := Last} -> exit(Last);
        _ -> ok
    end.
