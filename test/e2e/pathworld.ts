import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { askLine } from "../../src/sys/localsocket.js";
import { type AgentStatus, agentAnswer, agentStatus } from "../../src/wire/agentsocket.js";
import { parseWith } from "../../src/wire/schema.js";
import { expected, goesByIpv6, type Row } from "./pathrows.js";
import { eventually, object, World } from "./world.js";

/**
 * The lab for paths: coordinator and two relays on the rented server, an exit node at home behind a router that
 * forwards nothing, a laptop in the café. What is measured goes past the command line, straight to the agent's socket.
 */

export const VPS = "192.0.2.22";
const KNOWN_HOSTS = "/var/lib/exitnode-lab/vps/known_hosts";
const SOCKET = "/var/lib/exitnode-lab/places/laptop/run/agent.sock";
/** Of the exit node in the tunnel. */
export const EXIT_INSIDE = "100.64.0.1";
const ROUTERS = ["cafe", "home", "cafeisp", "homeisp"] as const;
const SETTLED_WITHIN_MS = 60_000;
const FIRST_PACKET_WITHIN_MS = 30_000;
const ANSWER_WITHIN_MS = 20_000;
/** After the line is whole again; the same for every row. */
const BACK_WITHIN_MS = 60_000;

export type Way = AgentStatus["peers"][number];
export type Measured = {
  readonly path: "direct" | "relayed" | "searching";
  readonly why: string | undefined;
  readonly firstPacketMs: number;
  /** From `use` until the path was direct. */
  readonly directMs: number | undefined;
};
export type Recovery = { readonly outageMs: number; readonly relayedMs: number; readonly backMs: number };

export class PathWorld extends World {
  vmid = 0;

  async raise(): Promise<void> {
    await this.raiseLab("--vps", "yes", "--forward", "no");
    const listed = (await this.at("vps", "ssh-keygen", "-lf", KNOWN_HOSTS)).stdout;
    const hostKey = /(SHA256:\S{43}).*\(ED25519\)/.exec(listed)?.[1] ?? "";
    const ssh = ["--ssh", `root@${VPS}`];
    // By name: it leads to both families. By address: this machine, outside of the lab's Internet, has no such name.
    const urls = ["--url", "https://vps.lab", "--url", `https://${VPS}`];
    const up = await this.run(["coordinator", "up", ...ssh, "--host-key", hostKey, ...urls]);
    assert.equal(up.code, 0, up.stderr);
    // A second STUN server: what a NAT does shows only in the difference.
    await this.json("relay", "up", ...ssh, "--url", "https://vps.lab:8443", "--stun-port", "3480", "--name", "second");
    const made = await this.json("create", "--host", "lab", "--name", "home");
    this.vmid = Number(object(made.exitNode).vmid);
    await this.laptopUp();
  }

  /** Both agents begin anew behind two routers that know of nothing; the laptop is up, and uses no exit node. */
  async begin(row: Row): Promise<void> {
    await this.#agent("use", "none");
    await this.laptop("down");
    await this.inside(this.vmid, "systemctl", "stop", "exitnode-agent");
    await this.json("lab", "nat", "cafe", row.left);
    await this.json("lab", "nat", "home", row.right);
    await this.ipv6Udp(goesByIpv6(row));
    await this.forgetConnections();
    await this.inside(this.vmid, "systemctl", "start", "exitnode-agent");
    assert.equal((await this.laptop("up")).code, 0);
    const settled = async (): Promise<boolean> => {
      const status = await this.status();
      return status.coordinator.connected && status.nat !== undefined && way(status).online;
    };
    await eventually("both are online", settled, SETTLED_WITHIN_MS);
  }

  async measure(row: Row): Promise<Measured> {
    const { path: wanted, withinMs } = expected(row);
    const from = performance.now();
    const pings = new Pings();
    try {
      await this.#agent("use", "home");
      await pings.until((replies) => replies.length > 0, FIRST_PACKET_WITHIN_MS);
      const firstPacketMs = (pings.replies[0] ?? Number.NaN) - from;
      const decided = async (): Promise<boolean> => {
        const { path } = way(await this.status());
        return path === "direct" || (wanted === "relayed" && path === "relayed");
      };
      await eventually("a path", decided, withinMs).catch(() => undefined);
      const directMs = performance.now() - from;
      const { path, why } = way(await this.status());
      return { path, why: why?.words, firstPacketMs, directMs: path === "direct" ? directMs : undefined };
    } finally {
      await pings.stop();
    }
  }

  /** The direct path dies without a word, and comes back. */
  async recover(): Promise<Recovery> {
    const pings = new Pings();
    try {
      await pings.until((replies) => replies.length > 0, FIRST_PACKET_WITHIN_MS);
      await this.json("lab", "link", "home", "direct-cut");
      const cut = pings.replies.at(-1) ?? performance.now();
      await pings.until((replies) => (replies.at(-1) ?? 0) > cut + 50, BACK_WITHIN_MS);
      const outageMs = (pings.replies.find((at) => at > cut + 50) ?? Number.NaN) - cut;
      await eventually("relayed", async () => way(await this.status()).path !== "direct", BACK_WITHIN_MS);
      const relayedMs = performance.now() - cut;
      await this.json("lab", "link", "home", "up");
      const backMs = await eventually("direct", async () => way(await this.status()).path === "direct", BACK_WITHIN_MS);
      return { outageMs, relayedMs, backMs };
    } finally {
      await pings.stop();
      await this.json("lab", "link", "home", "up");
    }
  }

  async status(): Promise<AgentStatus> {
    return parseWith(agentStatus, await ask({ do: "status" }), "the agent's status");
  }

  /** The one exit node, as the laptop's agent sees it. */
  async way(): Promise<Way> {
    return way(await this.status());
  }

  /** What a router does that was switched off and on: RFC 4787 calls it a loss of state. */
  async forgetConnections(): Promise<void> {
    for (const router of ROUTERS) {
      const flushed = await this.at(router, "perl", "-e", FLUSH);
      assert.equal(flushed.code, 0, flushed.stderr);
    }
  }

  async ipv6Udp(passes: boolean): Promise<void> {
    const table = "table ip6 exn-no-udp";
    const hook = "type filter hook forward priority -10; policy accept;";
    const rules = passes ? "" : `${table} { chain forward { ${hook} meta l4proto udp drop; }; }`;
    const set = await this.at("cafe", "nft", `${table}; delete ${table}; ${rules}`);
    assert.equal(set.code, 0, set.stderr);
  }

  async #agent(verb: "use", exit: string): Promise<void> {
    await ask({ do: verb, exit: exit === "none" ? null : exit });
  }
}

/** ctnetlink's "delete" without a filter, by what every Debian has: conntrack(8) is a package of its own. */
const FLUSH = `
socket(my $kernel, 16, 3, 12) or die $!;
send($kernel, pack("LSSLLCCn", 20, 0x0102, 5, 1, 0, 0, 0, 0), 0) or die $!;
recv($kernel, my $answer, 4096, 0);
exit(unpack("x16 l", $answer) == 0 ? 0 : 1);
`;

export function way(status: AgentStatus): Way {
  const found = status.peers.find(({ name }) => name === "home");
  assert.ok(found, "the laptop knows no peer home");
  return found;
}

async function ask(request: unknown): Promise<unknown> {
  const answer = parseWith(agentAnswer, await askLine(SOCKET, request, ANSWER_WITHIN_MS), "the agent's answer");
  if (!answer.ok) assert.fail(answer.error.message);
  return answer.value;
}

/** Twenty a second from the laptop to an address, and when each reply came, by ping's own clock. */
export class Pings {
  readonly replies: number[] = [];
  readonly #child: ChildProcess;
  readonly #closed: Promise<void>;
  #heard = (): void => undefined;

  constructor(to = EXIT_INSIDE) {
    const argv = ["netns", "exec", "exn-laptop", "ping", "-n", "-D", "-i", "0.05", to];
    const origin = Date.now() - performance.now();
    this.#child = spawn("ip", argv, { stdio: ["ignore", "pipe", "ignore"] });
    this.#closed = new Promise((resolve) => this.#child.on("close", () => resolve()));
    assert.ok(this.#child.stdout);
    createInterface({ input: this.#child.stdout }).on("line", (line) => {
      const [, seconds] = /^\[(\d+\.\d+)\] \d+ bytes from/.exec(line) ?? [];
      if (seconds !== undefined) this.replies.push(Number(seconds) * 1_000 - origin);
      this.#heard();
    });
  }

  async until(holds: (replies: readonly number[]) => boolean, withinMs: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const late = () => reject(new Error(`no such reply within ${withinMs} ms; ${this.replies.length} came`));
      const timer = setTimeout(late, withinMs);
      this.#heard = () => {
        if (!holds(this.replies)) return;
        clearTimeout(timer);
        resolve();
      };
      this.#heard();
    });
  }

  /** The two replies after `from` between which most time passed. */
  longestGap(from: number): { readonly began: number; readonly ended: number } {
    const after = this.replies.filter((at) => at >= from);
    const gaps = after.slice(1).map((ended, i) => ({ began: after[i] ?? ended, ended }));
    const [longest = { began: from, ended: from }] = gaps.sort((a, b) => b.ended - b.began - (a.ended - a.began));
    return longest;
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGINT");
    await this.#closed;
  }
}
