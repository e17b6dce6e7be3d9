import { authId, isRoot, may } from "../permission.js";
import { type Call, type Handlers, text, WithTotal } from "../pve.js";
import { forbidden } from "../refusal.js";
import { parseUpid, type TaskState, type Upid } from "../task.js";

/** Lines of a log, or tasks of the list, that are answered unless asked for otherwise. */
const LIMIT_DEFAULT = 50;

export const taskMethods: Handlers = {
  "GET /nodes/{node}/tasks": (call) => {
    const { pve, caller, params } = call;
    const all = may(pve.accounts, caller, `/nodes/${pve.nodeName}`, "Sys.Audit");
    const source = text(params, "source") ?? "archive";
    const wanted = pve.tasks
      .list()
      .filter(({ upid }) => all || owns(call, upid))
      .filter(({ state }) => source === "all" || (source === "active") === (state.kind === "running"))
      .filter(({ upid, state }) => matches(call, upid, state));
    const start = Number(params.start ?? 0);
    const page = wanted.slice(start, start + Number(params.limit ?? LIMIT_DEFAULT));
    return new WithTotal(
      page.map(({ upid, state }) => ({ ...upid, ...ending(state, "status") })),
      wanted.length,
    );
  },

  "GET /nodes/{node}/tasks/{upid}": () => [{ name: "log" }, { name: "status" }],

  "GET /nodes/{node}/tasks/{upid}/status": (call) => {
    const upid = readable(call);
    const state = call.pve.tasks.find(upid);
    return { ...upid, status: state.kind, ...(state.kind === "stopped" ? { exitstatus: state.exit } : {}) };
  },

  "GET /nodes/{node}/tasks/{upid}/log": (call) => {
    const lines = call.pve.tasks.log(readable(call));
    const start = Number(call.params.start ?? 0);
    const limit = Number(call.params.limit ?? LIMIT_DEFAULT) || lines.length;
    const numbered = lines.map((t, i) => ({ n: i + 1, t }));
    return new WithTotal(numbered.slice(start, start + limit), lines.length);
  },

  "DELETE /nodes/{node}/tasks/{upid}": (call) => {
    call.pve.tasks.abort(readable(call, "Sys.Modify"));
    return null;
  },
};

/** A user owns his and his tokens' tasks, a token only its own. */
function owns({ caller }: Call, upid: Upid): boolean {
  if (isRoot(caller)) return true;
  if (caller.token === undefined) return upid.user === caller.user;
  return `${upid.user}!${upid.tokenid}` === authId(caller);
}

function readable(call: Call, otherwise = "Sys.Audit"): Upid {
  const upid = parseUpid(String(call.params.upid));
  call.pve.tasks.find(upid);
  const path = `/nodes/${call.pve.nodeName}`;
  if (!owns(call, upid) && !may(call.pve.accounts, call.caller, path, otherwise))
    throw forbidden(`${path}, ${otherwise}`);
  return upid;
}

function matches({ params }: Call, upid: Upid, state: TaskState): boolean {
  const good = state.kind === "running" || /^(?:OK|WARNINGS: \d+)$/.test(state.exit);
  return (
    (params.errors !== 1 || !good) &&
    (params.vmid === undefined || upid.id === String(params.vmid)) &&
    (params.typefilter === undefined || upid.type === params.typefilter) &&
    (params.userfilter === undefined || upid.user.includes(String(params.userfilter))) &&
    (params.since === undefined || upid.starttime >= Number(params.since)) &&
    (params.until === undefined || upid.starttime <= Number(params.until))
  );
}

function ending(state: TaskState, key: string): Record<string, unknown> {
  return state.kind === "running" ? { [key]: "RUNNING" } : { [key]: state.exit, endtime: state.endtime };
}
