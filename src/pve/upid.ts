import { Failure } from "../kit/failure.js";

/**
 * A task's name as Proxmox VE writes it:
 *
 *   UPID:NODE:PID:PSTART:STARTTIME:TYPE:ID:USER[!TOKEN]:
 *
 * PID and STARTTIME are eight hex digits, PSTART eight or nine; ID may be empty (an upload has none).
 */
export type Upid = string & { readonly unit: "upid" };

export type UpidParts = {
  readonly node: string;
  readonly pid: number;
  readonly startedAtSeconds: number;
  readonly type: string;
  readonly id: string;
  readonly user: string;
};

const SHAPE =
  /^UPID:([a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?):([0-9A-Fa-f]{8}):[0-9A-Fa-f]{8,9}:([0-9A-Fa-f]{8}):([^:\s]+):([^:\s]*):([^:\s]+):$/;

export function tryUpid(text: string): Upid | undefined {
  return SHAPE.test(text) ? (text as Upid) : undefined;
}

export function parseUpid(text: string): Upid {
  const upid = tryUpid(text);
  if (upid === undefined)
    throw new Failure("upid-invalid", `expected a task id such as UPID:pve1:…:vzcreate:101:user@pve:, got "${text}"`);
  return upid;
}

export function upidParts(upid: Upid): UpidParts {
  const [, node = "", pid = "", started = "", type = "", id = "", user = ""] = SHAPE.exec(upid) ?? [];
  return { node, pid: Number.parseInt(pid, 16), startedAtSeconds: Number.parseInt(started, 16), type, id, user };
}
