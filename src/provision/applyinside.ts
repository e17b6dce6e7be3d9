import { Failure } from "../kit/failure.js";
import { type Millis, SECOND } from "../kit/time.js";
import { CONTAINER_ACTIONS, type ContainerAction } from "../netconf/containerfiles.js";
import type { Exec } from "../sys/exec.js";
import { type Inside, JOIN_KEY_PATH, PENDING_PATH } from "./inside.js";
import { adminOf, connection, lookInside, type Session } from "./session.js";
import { NO_INTERNET, unhealthy, type View } from "./view.js";

/** From the start of the daemon to its first answer; a node start on a slow core takes a second of it. */
const COORDINATOR_WAIT_MS: Millis = 30_000;
/** From the agent's start to a working exit node. */
const VERIFY_WAIT_MS: Millis = 45_000;
const POLL_MS: Millis = 300;
const ACTION_TIMEOUT_MS: Millis = 90_000;
/** In an upgrade there is something to go back to, and people wait for their traffic. */
const UPGRADE_ACTION_TIMEOUT_MS: Millis = 15_000;
const UNIT_LINES = 8;
const AGAIN = "run the command again: it goes on from what is there; if it fails again: exitnode doctor";

/** What the files make due is written down inside before the first of them changes, and crossed out once done. */
export async function pushChanged(session: Session, view: View, paths: readonly string[]): Promise<View> {
  const ssh = await connection(session, view);
  const files = (view.files ?? []).filter(({ path }) => paths.includes(path));
  await makeDue(
    ssh,
    files.flatMap(({ onChange }) => onChange),
    session.parts.signal,
  );
  // The users that own files are made by the first of them.
  const users = files.filter(({ onChange }) => onChange.includes("sysusers"));
  if (users.length > 0) {
    await ssh.push(users, session.parts.signal);
    await runActions(ssh, ["sysusers"], session.parts.signal);
  }
  await ssh.push(
    files.filter((file) => !users.includes(file)),
    session.parts.signal,
  );
  const actions = files.flatMap(({ onChange }) => onChange);
  const pushed = files.map(({ path, sha256, mode, owner }) => [path, { sha256, mode, owner }] as const);
  return seenAfter(view, (inside) => ({
    files: new Map([...inside.files, ...pushed]),
    pending: [...inside.pending, ...actions],
  }));
}

/** What a step of ours changed is known without another look, which costs a second. */
function seenAfter(view: View, change: (inside: Inside) => Partial<Inside>): View {
  return view.inside === undefined ? view : { ...view, inside: { ...view.inside, ...change(view.inside) } };
}

async function makeDue(exec: Exec, actions: readonly ContainerAction[], signal: AbortSignal): Promise<void> {
  const script = `set -e\nmkdir -p ${folderOf(PENDING_PATH)}\ncat >>${PENDING_PATH}\nsort -u -o ${PENDING_PATH} ${PENDING_PATH}\n`;
  await expectSuccess(exec, ["sh", "-c", script], { input: [...actions, ""].join("\n"), signal });
}

export async function applyActions(session: Session, view: View, actions: readonly ContainerAction[]): Promise<void> {
  const ssh = await connection(session, view);
  await runActions(ssh, actions, session.parts.signal, view.isSaved ? UPGRADE_ACTION_TIMEOUT_MS : ACTION_TIMEOUT_MS);
  // All that was due is in the plan, so all of it is done.
  await expectSuccess(ssh, ["rm", "-f", PENDING_PATH], { signal: session.parts.signal });
}

async function runActions(
  exec: Exec,
  actions: readonly ContainerAction[],
  signal: AbortSignal,
  timeoutMs = ACTION_TIMEOUT_MS,
): Promise<void> {
  for (const { action, commands } of CONTAINER_ACTIONS) {
    if (!actions.includes(action)) continue;
    for (const argv of commands) {
      const ran = await exec.run(argv, { timeoutMs, signal });
      if (ran.exitCode === 0) continue;
      const unit = action === "agent" || action === "coordinator" ? await lastWords(exec, `exitnode-${action}`) : "";
      throw new Failure(
        "apply-failed",
        `${argv.join(" ")} exited ${ran.exitCode}: ${ran.stderr.trim().slice(-500)}${unit}`,
        {
          advice: AGAIN,
        },
      );
    }
  }
}

async function lastWords(exec: Exec, unit: string): Promise<string> {
  const ran = await exec.run(["journalctl", "-u", unit, "-n", String(UNIT_LINES), "-o", "cat", "--no-pager"]);
  return ran.stdout
    .trim()
    .split("\n")
    .map((line) => `\n    ${line.slice(0, 300)}`)
    .join("");
}

/** A join key for this name alone, put where the agent takes it and removes it. */
export async function joinKey(session: Session, view: View): Promise<View> {
  const ssh = await connection(session, view);
  const admin = await adminOf(session, view);
  // A record left by a container that is gone would keep the name; one that is online is another exit node.
  const known = (await admin.devices()).find((device) => device.name === view.spec.name);
  if (known?.online) throw nameTaken(view.spec.name);
  if (known !== undefined) await admin.forget(known.id);
  const made = await admin.createKey({ role: "exit-node", name: view.spec.name });
  await makeDue(ssh, ["agent"], session.parts.signal);
  const file = { path: JOIN_KEY_PATH, content: `${made.joinKey}\n`, mode: 0o600, owner: "exitnode:exitnode" };
  await ssh.push([file], session.parts.signal);
  // The folder is the unit's StateDirectory; made by the push, it would be root's until the first start.
  const folder = folderOf(JOIN_KEY_PATH);
  const script = `chown exitnode:exitnode ${folder} && chmod 700 ${folder}`;
  await expectSuccess(ssh, ["sh", "-c", script], { signal: session.parts.signal });
  return seenAfter(view, (inside) => ({ joinKeyWaiting: true, pending: [...inside.pending, "agent"] }));
}

function nameTaken(name: string): Failure {
  return new Failure("name-taken", `the coordinator knows another exit node called "${name}", and it is online`, {
    advice: "choose another name: exitnode create --name NAME",
  });
}

export async function waitCoordinator(session: Session, view: View): Promise<View> {
  const { clock, signal } = session.parts;
  const startedAt = clock.now();
  for (;;) {
    const seen = await lookInside(session, view);
    if (seen.inside?.coordinator !== undefined) return seen;
    if (clock.now() - startedAt >= COORDINATOR_WAIT_MS)
      throw new Failure(
        "coordinator-unreachable",
        `the coordinator does not answer after ${COORDINATOR_WAIT_MS / 1_000} s${await lastWords(await connection(session, view), "exitnode-coordinator")}`,
        { advice: `exitnode logs ${session.name} --unit coordinator` },
      );
    await clock.sleep(POLL_MS, signal);
  }
}

/** Waits until the agent is in and the exit node offers the whole Internet. */
export async function verify(session: Session, view: View, note: (words: string) => void): Promise<View> {
  return untilWorks(session, view, VERIFY_WAIT_MS, note, async (seen) => {
    // A refused join key is mended by the plan, which has a step for it.
    if (seen.inside?.agent?.coordinator.refusal?.startsWith("join-key-") === true) return undefined;
    return seen.inside === undefined ? "nothing was seen" : (unhealthy(seen.inside) ?? (await unlisted(session, seen)));
  });
}

const ONLINE_ADVICE =
  "check that its bridge or VLAN leads to your router, that the router lets it out, and its --ip and --gateway if you gave them";

/** Looks again until there is no trouble left; what there is after `waitMs` is the failure. */
export async function untilWorks(
  session: Session,
  view: View,
  waitMs: Millis,
  note: (words: string) => void,
  troubleOf: (seen: View) => Promise<string | undefined>,
): Promise<View> {
  const { clock, signal } = session.parts;
  const startedAt = clock.now();
  for (let seen = view; ; seen = await lookInside(session, view)) {
    const trouble = await troubleOf(seen);
    if (trouble === undefined) return seen;
    note(trouble);
    if (clock.now() - startedAt >= waitMs)
      throw new Failure(
        "exit-node-unhealthy",
        `"${session.name}" does not work after ${waitMs / SECOND} s: ${trouble}`,
        {
          advice: `${trouble === NO_INTERNET ? `${ONLINE_ADVICE}\n` : ""}exitnode doctor --host ${session.request.hostName}\nexitnode logs ${session.name}`,
        },
      );
    await clock.sleep(POLL_MS, signal);
  }
}

/** What the coordinator says against it. */
export async function unlisted(session: Session, view: View): Promise<string | undefined> {
  const listed = (await (await adminOf(session, view)).devices()).find(({ name }) => name === view.spec.name);
  if (listed === undefined) return "the coordinator does not list it";
  if (!listed.online) return "the coordinator lists it as offline";
  if (!listed.routes.includes("0.0.0.0/0")) return "the coordinator does not list its route to the Internet";
  return undefined;
}

async function expectSuccess(
  exec: Exec,
  argv: readonly string[],
  options: { readonly input?: string; readonly signal: AbortSignal },
): Promise<void> {
  const ran = await exec.run(argv, options);
  if (ran.exitCode !== 0)
    throw new Failure(
      "apply-failed",
      `${argv[0]} in the container exited ${ran.exitCode}: ${ran.stderr.trim().slice(-500)}`,
      { advice: AGAIN },
    );
}

const folderOf = (path: string): string => path.slice(0, path.lastIndexOf("/"));
