import { taskFailure } from "../../pve/errors.js";
import type { FailedTask } from "../../pve/guests.js";
import { upidParts } from "../../pve/upid.js";
import { type Finding, onHost, stops, warns } from "../preflight/finding.js";

/** A task that failed, with the end of its log. */
export type ReadTask = FailedTask & { readonly log: readonly string[] };

/** What concerns us among a host's failed tasks. */
export type TaskScope = {
  /** Whose tasks are ours: user@realm or user@realm!token. */
  readonly login: string;
  /** Exit nodes, by VMID, and whether they run. */
  readonly running: ReadonlyMap<number, boolean>;
  readonly sinceSeconds: number;
};

/** Failures of before count for a day: after that, whoever had them has moved on. */
export const TASKS_WITHIN_SECONDS = 24 * 3_600;
/** Logs that are read: the newest. */
const TASKS_READ_MAX = 6;

/** Worth reading: of our login or our containers, not too old, and not refuted by a container that runs since. */
export function concerning(tasks: readonly FailedTask[], { login, running, sinceSeconds }: TaskScope): FailedTask[] {
  const seen = new Set<string>();
  return tasks
    .filter(({ upid }) => {
      const { type, id, user, startedAtSeconds } = upidParts(upid);
      if (startedAtSeconds < sinceSeconds) return false;
      const vmid = Number(id);
      if (type === "vzstart" && running.get(vmid) !== false) return false;
      if (type === "vzcreate" && running.has(vmid)) return false;
      if (user !== login && !running.has(vmid)) return false;
      // The newest of a kind tells enough.
      const kind = `${type} ${id}`;
      return !seen.has(kind) && seen.add(kind) !== undefined;
    })
    .slice(0, TASKS_READ_MAX);
}

type Cause = {
  readonly match: RegExp;
  readonly code: string;
  readonly what: string;
  readonly why?: string;
  /** `VMID` is the container's number. */
  readonly advice: string;
};

/** Words of a task's log that give the cause away; what is known of every task is in pve/errortable.ts. */
const CAUSES: readonly Cause[] = [
  {
    match: /autodev.*(?:hook|status 17)|[Ss]cript exited with status 17/,
    code: "tun-twice",
    what: "/dev/net/tun is passed twice: as dev0, and by an lxc.mount.entry line",
    why: "the second finds the first one's node",
    advice: onHost("sed -i '/^lxc\\.mount\\.entry: .*dev\\/net\\/tun/d' /etc/pve/lxc/VMID.conf", "pct start VMID"),
  },
  {
    match:
      /(?:\/dev\/net\/tun|net\/tun).*(?:does not exist|No such (?:file|device))|(?:does not exist|No such file).*net\/tun/,
    code: "tun-missing",
    what: "the host has no /dev/net/tun",
    why: "the module is not loaded at the host's start",
    advice: onHost("modprobe tun && echo tun > /etc/modules-load.d/tun.conf", "pct start VMID"),
  },
  {
    match: /unsupported debian version '([^']*)'/,
    code: "pve-container-too-old",
    what: "the host's pve-container does not know Debian $1",
    advice: onHost("apt update && apt full-upgrade"),
  },
  {
    match: /mknod.*(?:not permitted|denied)|Cannot mknod/,
    code: "template-has-devices",
    what: "the template holds device nodes, which an unprivileged container may not make",
    why: "Proxmox leaves out ./dev alone; nodes elsewhere, as in var/spool/postfix/dev, stop the unpacking",
    advice: "exitnode appliance build    (ours holds none)",
  },
  {
    match: /CT is locked|can't lock file|got timeout|[Tt]imeout while waiting/,
    code: "host-busy",
    what: "the host was busy with another task on the same container",
    advice: "run the command again: it looks at what is there before it writes",
  },
  {
    match: /(?:CT|VM) (\d+) already exists/,
    code: "vmid-taken",
    what: "the number $1 was taken at the same moment by somebody else",
    advice: "run the command again: it takes the next free one",
  },
  {
    match: /snapshot feature is not available/,
    code: "snapshot-unsupported",
    what: "a snapshot was asked for, and the storage takes none",
    advice: "exitnode upgrade    (makes a backup or a copy instead)",
  },
];

/** The causes of failed tasks, newest first. */
export function taskFindings(tasks: readonly ReadTask[], running: ReadonlyMap<number, boolean>): Finding[] {
  return tasks.map(({ upid, exit, log }): Finding => {
    const { type, id } = upidParts(upid);
    const label = `task ${type}${id === "" ? "" : ` ${id}`}`;
    const hit = causeIn([...log, exit]);
    const known = taskFailure(type, exit, log);
    const fill = (text: string): string => text.replaceAll("VMID", id).replace("$1", hit?.caught ?? "");
    const said = exit.slice(0, 160);
    const code = hit?.cause.code ?? (known.code === "task-failed" ? "task-failed" : known.code);
    const what = hit === undefined ? `failed: ${said}` : `failed (${said}): ${fill(hit.cause.what)}`;
    const why = hit?.cause.why;
    const advice = hit === undefined ? known.advice : fill(hit.cause.advice);
    const more = { ...(why === undefined ? {} : { why }), ...(advice === undefined ? {} : { advice }) };
    // A container that is not up is down for this very reason.
    if (type === "vzstart" && running.get(Number(id)) === false) return stops(label, code, what, more);
    return { ...warns(label, what, more), code };
  });
}

function causeIn(lines: readonly string[]): { readonly cause: Cause; readonly caught: string } | undefined {
  for (const cause of CAUSES)
    for (const line of lines) {
      const match = cause.match.exec(line);
      if (match !== null) return { cause, caught: match[1] ?? "" };
    }
  return undefined;
}
