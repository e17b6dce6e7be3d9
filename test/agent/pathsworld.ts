import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { localExec, mustRun } from "../../src/sys/exec.js";
import { type AgentStatus, agentAnswer, agentStatus } from "../../src/wire/agentsocket.js";
import { until } from "../engine/patience.js";
import { must, type Place, placeOf, removePlaces, startWireguardGo, stop } from "../engine/places.js";

/**
 * Homes, each behind a router that translates addresses, and the Internet between them with two relays and a
 * coordinator: real agents with real engines in namespaces. Two homes, or as many as are asked for.
 *
 *   PREFIXa — PREFIXra ──┐
 *                        PREFIXn  203.0.113.1 and .2
 *   PREFIXb — PREFIXrb ──┘
 */
export type Nat = "easy" | "hard" | "none";
const SIDES = ["a", "b", "c", "d"] as const;
export type Side = (typeof SIDES)[number];
export const MIDDLES = ["203.0.113.1", "203.0.113.2"] as const;

/** As on a person's machine: the agent's user, whose sockets the tunnel's routes leave alone, and one capability. */
const USER = 64_123;
const AS_USER = [
  ...["setpriv", `--reuid=${USER}`, `--regid=${USER}`, "--clear-groups", "--bounding-set=-all,+net_admin"],
  ...["--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin", "--no-new-privs"],
];

export class PathsWorld {
  readonly middle: Place;
  readonly sides: Record<Side, { readonly home: Place; readonly router: Place }>;
  readonly #count: number;
  readonly #prefix: string;
  readonly #wan: string;
  readonly #kernel: "stand-in" | "own";
  readonly #children: ChildProcess[] = [];
  #coordinator: ChildProcess | undefined;
  #coordinatorKey = "";
  #folder = "";
  /** An agent that is started again finds what it left. */
  readonly #folders = new Map<string, string>();

  /**
   * `wan`: the first three numbers of the routers' public addresses; `kernel`: whether what kernel mode finds is
   * this kernel's own WireGuard or, as not every machine has it, wireguard-go in its place; `count`: of homes.
   */
  constructor(prefix: string, wan = "198.51.100", kernel: "stand-in" | "own" = "stand-in", count = 2) {
    this.#prefix = prefix;
    this.#wan = wan;
    this.#kernel = kernel;
    this.middle = placeOf(`${prefix}n`);
    this.#count = count;
    const side = (name: string) => ({ home: placeOf(`${prefix}${name}`), router: placeOf(`${prefix}r${name}`) });
    this.sides = { a: side("a"), b: side("b"), c: side("c"), d: side("d") };
  }

  async open(): Promise<void> {
    this.#removePlaces();
    for (const name of this.#names()) await mustRun(localExec, ["ip", "netns", "add", name]);
    this.#folder = await mkdtemp(join(tmpdir(), "exn-ap-"));
    await chmod(this.#folder, 0o755);
    await batch(this.middle, ["link set lo up", ...MIDDLES.map((ip) => `address add ${ip}/32 dev lo`)]);
    await must(this.middle, "sysctl -qw net.ipv4.ip_forward=1");
    for (const [i, name] of SIDES.slice(0, this.#count).entries()) await this.#wire(name, i + 1);
    this.#coordinator = this.#spawn(this.middle, "pathsmiddle.js", MIDDLES);
    this.#coordinatorKey = await firstLine(this.#coordinator);
  }

  async close(): Promise<void> {
    // The last one first: an agent takes leave of what was there before it.
    for (const child of this.#children.reverse()) await stop(child);
    this.#removePlaces();
    if (this.#folder !== "") await rm(this.#folder, { recursive: true, force: true });
  }

  /** What the router does to UDP: keeps ports, or chooses another at random for every destination. */
  async nat(side: Side, nat: Nat): Promise<void> {
    const { router } = this.sides[side];
    const rule = nat === "none" ? "" : `oifname "out" masquerade${nat === "hard" ? " random,fully-random" : ""}`;
    const policy = nat === "none" ? "" : 'iifname "out" ct state new drop';
    await must(
      router,
      "nft -f -",
      `table ip nat {}
delete table ip nat
table ip nat {
  chain post { type nat hook postrouting priority srcnat; ${rule}; }
  chain input { type filter hook input priority filter; ${policy}; }
  chain forward { type filter hook forward priority filter; ${policy}; }
}
`.replaceAll(" ; }", " }"),
    );
  }

  publicOf(side: Side): string {
    return `${this.#wan}.${4 * SIDES.indexOf(side) + 6}`;
  }

  /** The coordinator wants another WireGuard key of the device, now. */
  rotate(name: string): void {
    this.#coordinator?.stdin?.write(`${name}\n`);
  }

  /** The router gives out ports by PCP, NAT-PMP and UPnP, once it translates addresses as it is to. */
  async giveOutPorts(side: Side): Promise<void> {
    const { router } = this.sides[side];
    await must(router, "nft -f -", UPNP_RULES);
    const path = join(this.#folder, `upnp-${side}.conf`);
    await writeFile(path, upnpConfig(this.publicOf(side)));
    this.#children.push(
      spawn("ip", ["netns", "exec", router.name, "/usr/sbin/miniupnpd", "-d", "-f", path], { stdio: "ignore" }),
    );
    // Who asks a router that is not there yet takes it for one that gives out none, for a while.
    const isThere = async (): Promise<boolean> => (await must(router, "ss -Hlun sport = :5351")) !== "";
    await until("miniupnpd listens", isThere);
  }

  /** Drops in the middle what the nftables expression matches; an empty list drops nothing. */
  async cut(...expressions: readonly string[]): Promise<void> {
    const rules = expressions.map((one) => `    ${one} drop`).join("\n");
    const chain = (hook: string) => `  chain ${hook} {\n    type filter hook ${hook} priority filter;\n${rules}\n  }\n`;
    const table = `table ip cut {}\ndelete table ip cut\ntable ip cut {\n${chain("input")}${chain("forward")}}\n`;
    await must(this.middle, "nft -f -", table);
  }

  async agent(side: Side, name: string, config: Record<string, unknown> = {}): Promise<PlacedAgent> {
    const { home } = this.sides[side];
    const coordinator = { urls: [`https://${MIDDLES[0]}:8443`], publicKey: this.#coordinatorKey };
    const role = name === "home" || name === "cabin" ? "exit-node" : "device";
    // Device names are the agents': an interface of each stays apart in whatever is printed.
    const full = { name, role, coordinator, interface: `exnap${side}`, dataPlane: "userspace", ...config };
    const folder = this.#folders.get(name) ?? (await mkdtemp(join(this.#folder, `${name}-`)));
    this.#folders.set(name, folder);
    await chown(folder, USER, USER);
    // `wg` speaks to wireguard-go as to the kernel, but as root.
    const isStandIn = full.dataPlane === "kernel" && this.#kernel === "stand-in";
    // An exit node's outlives its agent, as the kernel's does.
    const isThere = (await home.exec.run(["ip", "link", "show", "dev", full.interface])).exitCode === 0;
    if (isStandIn && !isThere) this.#children.push(await startWireguardGo(home, full.interface));
    const child = this.#spawn(home, "pathsagent.js", [folder, JSON.stringify(full)], isStandIn ? [] : AS_USER);
    const agent = new PlacedAgent(home, child);
    await agent.ready;
    return agent;
  }

  #names(): string[] {
    const homes = SIDES.slice(0, this.#count);
    return ["n", ...homes, ...homes.map((name) => `r${name}`)].map((one) => `${this.#prefix}${one}`);
  }

  #removePlaces(): void {
    removePlaces(...this.#names());
  }

  async #wire(name: Side, number: number): Promise<void> {
    const { home, router } = this.sides[name];
    await batch(router, [
      `link add in type veth peer name wire netns ${home.name}`,
      `link add out type veth peer name to-${name} netns ${this.middle.name}`,
      `address add 192.168.${number}.1/24 dev in`,
      `address add ${this.publicOf(name)}/30 dev out`,
      ...["lo", "in", "out"].map((link) => `link set ${link} up`),
    ]);
    const middle = `${this.#wan}.${number * 4 + 1}`;
    await batch(this.middle, [`address add ${middle}/30 dev to-${name}`, `link set to-${name} up`]);
    await batch(router, [`route add default via ${middle}`]);
    await batch(home, [
      `address add 192.168.${number}.2/24 dev wire`,
      ...["lo", "wire"].map((link) => `link set ${link} up`),
      `route add default via 192.168.${number}.1`,
    ]);
    await must(router, "sysctl -qw net.ipv4.ip_forward=1");
    await this.nat(name, "easy");
  }

  #spawn(place: Place, program: string, args: readonly string[], as: readonly string[] = []): ChildProcess {
    const path = fileURLToPath(new URL(program, import.meta.url));
    const argv = ["netns", "exec", place.name, ...as, process.execPath, "--enable-source-maps", path, ...args];
    const child = spawn("ip", argv, { stdio: ["pipe", "pipe", "inherit"] });
    this.#children.push(child);
    return child;
  }
}

/** An agent of the world, and its machine. */
export class PlacedAgent {
  readonly place: Place;
  readonly ready: Promise<void>;
  readonly #child: ChildProcess;
  readonly #answers: ((line: string) => void)[] = [];

  constructor(place: Place, child: ChildProcess) {
    this.place = place;
    this.#child = child;
    let isReady: () => void = () => undefined;
    this.ready = new Promise((resolve) => {
      isReady = resolve;
    });
    if (child.stdout !== null)
      createInterface({ input: child.stdout }).on("line", (line) => {
        if (line === "ready") isReady();
        else this.#answers.shift()?.(line);
      });
  }

  async ask(request: unknown): Promise<unknown> {
    const line = new Promise<string>((resolve) => this.#answers.push(resolve));
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
    const answer = agentAnswer.parse(JSON.parse(await line));
    if (!answer.ok) throw new Error(answer.error.message);
    return answer.value;
  }

  async status(): Promise<AgentStatus> {
    return agentStatus.parse(await this.ask({ do: "status" }));
  }

  async peer(name: string): Promise<AgentStatus["peers"][number] | undefined> {
    return (await this.status()).peers.find((peer) => peer.name === name);
  }

  async stop(): Promise<void> {
    await stop(this.#child);
  }

  /** As a power cut does: no farewell, and an engine's interface is gone with it. */
  async kill(): Promise<void> {
    const over = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await over;
  }
}

const batch = (place: Place, lines: readonly string[]): Promise<string> =>
  must(place, "ip -batch -", `${lines.join("\n")}\n`);

async function firstLine(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error("no stdout");
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  return String(line);
}

/** What comes in for a mapped port is let through before it is dropped, and gets the port's address before any other. */
const UPNP_RULES = `table inet upnp {
  chain prerouting { type nat hook prerouting priority -100; jump mapped; }
  chain postrouting { type nat hook postrouting priority 99; jump mapped-out; }
  chain mapped { }
  chain mapped-out { }
  chain allowed { }
}
table ip nat {
  chain forward { type filter hook forward priority filter; }
}
flush chain ip nat forward
table ip nat {
  chain forward { type filter hook forward priority filter; ct status dnat accept; iifname "out" ct state new drop; }
}
`;

const upnpConfig = (address: string): string => `ext_ifname=out
ext_ip=${address}
listening_ip=in
http_port=5000
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
uuid=6f1b2f4e-0c1c-4b1e-9d53-6d1f2b1a7b12
upnp_table_name=upnp
upnp_nat_table_name=upnp
upnp_forward_chain=allowed
upnp_nat_chain=mapped
upnp_nat_postrouting_chain=mapped-out
allow 1024-65535 192.168.0.0/16 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
`;
