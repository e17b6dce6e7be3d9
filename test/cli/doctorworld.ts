import { join } from "node:path";
import type { Call } from "../../src/cli/command.js";
import { writeConfig, writeCredentials } from "../../src/cli/config.js";
import { openHost } from "../../src/cli/hosts.js";
import { pathsFrom } from "../../src/cli/paths.js";
import { SECOND } from "../../src/kit/time.js";
import { examineHost } from "../../src/provision/doctor/host.js";
import type { HostLook } from "../../src/provision/doctor/look.js";
import { writeIdentity } from "../../src/provision/identity.js";
import type { Finding } from "../../src/provision/preflight/finding.js";
import { ROLES } from "../../src/pve/permissions.js";
import { type Clock, systemClock } from "../../src/sys/clock.js";
import { localFiles } from "../../src/sys/files.js";
import { Room } from "../provision/room.js";
import { type Act, type FakeHost, type Seen, startFakeHost } from "../pve/fakehost.js";
import { type Home, makeHome, type Rights, smallPve } from "./hostworld.js";

const SECRET = "11111111-2222-3333-4444-555555555555";
export const TOKEN = "exitnode@pve!cli";
const ALL: Rights = { "/": Object.values(ROLES).flat() };
export const VMID = 101;

const CONFIG = {
  hostname: "home",
  tags: "exitnode",
  description: writeIdentity("", {
    id: "1",
    name: "home",
    given: {},
    coordinator: true,
    hostKey: `SHA256:${"k".repeat(43)}`,
  }),
  ostype: "debian",
  unprivileged: 1,
  onboot: 1,
  memory: 512,
  swap: 0,
  cores: 1,
  features: "nesting=1",
  rootfs: "tank:subvol-101-disk-0,size=4G",
  net0: "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:65,ip=dhcp,ip6=auto",
};

export type Situation = {
  /** Answers of Proxmox that differ from those of a host that is as it should be, by path. */
  readonly data?: Record<string, unknown>;
  /** Options of the container that differ; undefined takes one away. */
  readonly config?: Record<string, unknown>;
  readonly status?: "running" | "stopped";
  readonly addresses?: readonly string[];
  /** Tasks that failed, newest first, with their logs. */
  readonly failed?: readonly { readonly upid: string; readonly status: string; readonly log?: readonly string[] }[];
  readonly login?: string;
  readonly rights?: Rights;
  readonly answer?: (request: Seen) => Act | undefined;
  /** Without an exit node. */
  readonly empty?: boolean;
  readonly look?: Partial<HostLook>;
};

/** Looks are judged by what they see: how long they may take has a test of its own, and a busy machine takes longer. */
export const patientClock: Clock = {
  ...systemClock,
  // Pauses between two tries stay as they are.
  sleep: (duration, signal) => systemClock.sleep(duration < SECOND ? duration : 20 * duration, signal),
};

export const upid = (type: string, id: number | string, login = TOKEN, agoSeconds = 60): string => {
  const hex = (value: number): string => Math.floor(value).toString(16).toUpperCase().padStart(8, "0");
  return `UPID:pve1:${hex(4_242)}:${hex(99)}:${hex(Date.now() / 1_000 - agoSeconds)}:${type}:${id}:${login}:`;
};

/** A small Proxmox VE with one exit node, in a home folder's config; its answers have this machine's time. */
export class DoctorWorld {
  readonly home: Home = makeHome();
  host: FakeHost | undefined;
  #situation: Situation = {};

  async open(situation: Situation = {}): Promise<void> {
    this.#situation = situation;
    const { login = TOKEN, rights = ALL } = situation;
    const small = smallPve(`PVEAPIToken=${login}=${SECRET}`, rights, this.#data());
    this.host = await startFakeHost((request) => {
      const act = situation.answer?.(request) ?? small(request);
      return typeof act === "object" && "data" in act ? { data: act.data } : act;
    });
    const { url, fingerprint } = this.host;
    const entry = { url, fingerprint, login, defaults: {} };
    await writeConfig(localFiles, this.home.folder, { hosts: { pve1: entry } as never });
    await writeCredentials(localFiles, this.home.folder, { hosts: { pve1: { secret: SECRET } } });
  }

  #data(): Record<string, unknown> {
    const { data = {}, config = {}, status = "running", failed = [], empty } = this.#situation;
    const { addresses = ["10.0.0.5", "fe80::1"] } = this.#situation;
    const guest = { vmid: VMID, name: "home", node: "pve1", type: "lxc", status, tags: "exitnode" };
    const at = `/nodes/pve1/lxc/${VMID}`;
    const eth0 = {
      name: "eth0",
      hwaddr: "bc:24:11:00:00:65",
      "ip-addresses": addresses.map((ip) => ({ "ip-address": ip })),
    };
    return {
      "/cluster/resources": empty === true ? [] : [guest],
      [`${at}/config`]: { ...CONFIG, ...config },
      [`${at}/status/current`]: { status },
      [`${at}/interfaces`]: [eth0],
      [`${at}/feature`]: { hasFeature: 1 },
      "/nodes/pve1/tasks": failed.map(({ upid: name, status: exit }) => ({ upid: name, status: exit })),
      ...Object.fromEntries(
        failed.map(({ upid: name, log = [] }) => [
          `/nodes/pve1/tasks/${encodeURIComponent(name)}/log`,
          log.map((t, i) => ({ n: i + 1, t })),
        ]),
      ),
      ...data,
    };
  }

  /** The examination itself, with a healthy room behind every SSH connection unless told otherwise. */
  async examine(): Promise<Finding[]> {
    const call = this.call([]);
    const { login = TOKEN } = this.#situation;
    const opened = await openHost(call.parts, "pve1");
    const room = new Room();
    try {
      const look: HostLook = {
        host: opened.pve,
        clock: patientClock,
        signal: call.signal,
        openSsh: async () => room.open(),
        sshKey: { privateKey: "private", publicKey: "ssh-ed25519 AAAA exitnode" },
        appliance: async () => undefined,
        ...this.#situation.look,
      };
      return await examineHost(look, { hostName: "pve1", login, pveNode: undefined, defaults: {} });
    } finally {
      opened.pve.close();
    }
  }

  call(args: readonly string[], options: Call["options"] = {}): Call {
    const call = this.home.call(args, options);
    const { folder } = this.home;
    const env = { EXITNODE_CONFIG: folder, EXITNODE_ETC: join(folder, "etc"), EXITNODE_RUN: join(folder, "run") };
    const paths = pathsFrom({ ...env, EXITNODE_VAR: join(folder, "var"), XDG_CACHE_HOME: join(folder, "cache") }, ".");
    return { ...call, parts: { ...call.parts, clock: patientClock, paths } };
  }

  async close(): Promise<void> {
    await this.host?.close();
    this.home.remove();
  }
}
