import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Call } from "../../src/cli/command.js";
import { pathsFrom } from "../../src/cli/paths.js";
import { localExec } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";
import { systemRandom } from "../../src/sys/random.js";
import type { Act, Seen } from "../pve/fakehost.js";
import { TestClock } from "../pve/testclock.js";

/** A home folder of its own, and calls as main makes them. */
export type Home = {
  readonly folder: string;
  readonly said: string[];
  call(args: readonly string[], options?: Call["options"], env?: Record<string, string>): Call;
  remove(): void;
};

export function makeHome(): Home {
  const folder = mkdtempSync(join(tmpdir(), "exn-home-"));
  const said: string[] = [];
  return {
    folder,
    said,
    call: (args, options = {}, env = {}) => ({
      args,
      options,
      json: false,
      signal: new AbortController().signal,
      parts: {
        env,
        paths: pathsFrom({ EXITNODE_CONFIG: folder }, "."),
        exec: localExec,
        files: localFiles,
        clock: new TestClock(),
        random: systemRandom,
        say: (line) => said.push(line),
        interactive: false,
      },
    }),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

export type Rights = Record<string, readonly string[]>;

/** What a login may do at a path: its own entry, or the nearest above it. */
function rightsAt(rights: Rights, path: string): Record<string, number> {
  for (let at = path; ; at = at.slice(0, at.lastIndexOf("/")) || "/") {
    const own = rights[at];
    if (own !== undefined) return Object.fromEntries(own.map((priv) => [priv, 1]));
    if (at === "/") return {};
  }
}

/** The host's clock: that of TestClock as it begins. */
const HOST_WALL_MS = new TestClock().wall();

/** A small Proxmox VE: one token, one node with a storage and a bridge. */
export function smallPve(authorization: string, rights: Rights, data: Record<string, unknown> = {}) {
  return (request: Seen): Act => {
    if (request.headers.authorization !== authorization) return { status: 401, reason: "Authentication failed!" };
    const date = new Date(HOST_WALL_MS).toUTCString();
    const path = request.path.replace("/api2/json", "");
    const asked = new URLSearchParams(request.query).get("path");
    if (path === "/access/permissions" && asked !== null) return { data: { [asked]: rightsAt(rights, asked) }, date };
    const answers: Record<string, unknown> = {
      "/version": { version: "9.2.11", release: "9.2" },
      "/nodes": [{ node: "pve1", status: "online" }],
      "/cluster/resources": [],
      "/nodes/pve1/apt/versions": [{ Package: "pve-container", Version: "6.1.10", CurrentState: "Installed" }],
      "/nodes/pve1/status": { kversion: "Linux 6.18.4-1-pve #1 SMP", pveversion: "pve-manager/9.2.11" },
      "/nodes/pve1/network": [
        { iface: "vmbr1", type: "bridge", active: 1 },
        { iface: "vmbr0", type: "bridge", active: 1, cidr: "198.18.77.10/24", gateway: "198.18.77.1" },
      ],
      "/nodes/pve1/storage": [
        { storage: "local", type: "dir", content: "vztmpl,backup", active: 1, avail: 20e9, total: 90e9 },
        { storage: "tank", type: "zfspool", content: "rootdir,images", active: 1, avail: "60000000000", total: 90e9 },
      ],
      "/nodes/pve1/storage/local/content": [
        { volid: "local:vztmpl/debian-13-exitnode_1.0.0-1_amd64.tar.zst", size: 60e6, ctime: 5, content: "vztmpl" },
      ],
      ...data,
    };
    return path in answers
      ? { data: answers[path], date }
      : { status: 501, reason: `Method 'GET ${path}' not implemented` };
  };
}
