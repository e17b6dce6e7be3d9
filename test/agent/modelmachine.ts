import type { Endpoint } from "../../src/kit/endpoint.js";
import type { Family } from "../../src/kit/ip.js";
import type { Key } from "../../src/kit/key.js";
import type { Exec, Ran } from "../../src/sys/exec.js";
import type { Files } from "../../src/sys/files.js";
import type { Backend, InterfaceState, PeerState, Probes, WantInterface } from "../../src/wireguard/interface.js";

/** A Linux machine as far as an agent changes it: one device, its addresses, our rules, routes and nftables tables. */
export class ModelMachine {
  link: { up: boolean; mtu: number } | undefined;
  readonly addresses = new Set<string>();
  readonly rules: Record<Family, Set<string>> = { 4: new Set(), 6: new Set() };
  readonly routes: Record<Family, Map<string, string>> = { 4: new Map(), 6: new Map() };
  /** nftables tables of the inet family, as text. */
  readonly tables = new Map<string, string>();
  /** The table that redirects DNS. */
  get dns(): string | undefined {
    return this.tables.get("exitnode_client");
  }

  /** Looks at every command before it is run: what it throws is what comes of it, what it awaits holds it up. */
  before: (argv: readonly string[]) => void | Promise<void> = () => undefined;

  /** Programs that were started. */
  started = 0;

  readonly exec: Exec = {
    run: async (argv, options) => {
      this.started++;
      return argv[0] === "sh" ? this.#script(argv[2] ?? "") : this.#command(argv, String(options?.input ?? ""));
    },
  };

  /** What of ours decides where traffic goes. */
  traces(): string[] {
    const families: Family[] = [4, 6];
    const routing = families.flatMap((family) => [...this.rules[family], ...this.routes[family].keys()]);
    return [...routing, ...this.addresses, ...this.tables.keys()];
  }

  /** Commands of quoted words, a line each, whose exit code is told after their output. */
  async #script(text: string): Promise<Ran> {
    let stdout = "";
    for (const line of text.split("\n")) {
      const [command = ""] = line.split("; printf ");
      const words = [...command.matchAll(/'([^']*)'/g)].map(([, word = ""]) => word);
      const ran = await this.#command(words, "");
      stdout += `${ran.stdout}\0${ran.exitCode}\0`;
    }
    return { exitCode: 0, stdout, stderr: "" };
  }

  async #command(argv: readonly string[], input: string): Promise<Ran> {
    await this.before(argv);
    const stdout = this.#run([...argv], input);
    return { exitCode: stdout === undefined ? 1 : 0, stdout: stdout ?? "", stderr: stdout === undefined ? "no" : "" };
  }

  #run(argv: string[], input: string): string | undefined {
    const line = argv.join(" ");
    if (argv[0] === "nft") return this.#nft(line, input);
    if (line.startsWith("cat ")) return "0\n";
    if (line.startsWith("ip -j address show")) return this.#showLink();
    const family: Family | undefined = argv[1] === "-4" ? 4 : argv[1] === "-6" ? 6 : undefined;
    if (family !== undefined) return this.#routing(family, argv.slice(2));
    if (line.startsWith("ip address add ")) this.addresses.add(argv[3] ?? "");
    if (line.startsWith("ip address del ")) this.addresses.delete(argv[3] ?? "");
    if (line.startsWith("ip link set ") && this.link !== undefined) {
      this.link.up = argv.at(-1) === "up";
      this.link.mtu = Number(argv[argv.indexOf("mtu") + 1] ?? 0) || this.link.mtu;
    }
    return "";
  }

  #nft(line: string, input: string): string | undefined {
    const name = /table inet (\S+)/.exec(line === "nft -f -" ? input : line)?.[1] ?? "";
    if (line.startsWith("nft list")) return this.tables.get(name);
    const text = input.slice(input.lastIndexOf("table inet"));
    if (text.includes("{")) this.tables.set(name, text);
    else this.tables.delete(name);
    return "";
  }

  #showLink(): string | undefined {
    if (this.link === undefined) return undefined;
    const addr_info = [...this.addresses].map((address) => {
      const [local, length] = address.split("/");
      return { local, prefixlen: Number(length), scope: "global" };
    });
    return JSON.stringify([{ flags: this.link.up ? ["UP"] : [], mtu: this.link.mtu, addr_info }]);
  }

  #routing(family: Family, argv: string[]): string {
    const [rules, routes] = [this.rules[family], this.routes[family]];
    const [kind, verb] = argv[0] === "-j" ? argv.slice(1) : argv;
    const rest = argv.slice(2);
    if (kind === "rule" && verb === "show") return JSON.stringify([...rules].map(ruleJson));
    if (kind === "rule" && verb === "add") rules.add(rest.join(" "));
    if (kind === "rule" && verb === "del") rules.delete(rest.join(" "));
    if (kind === "route" && verb === "show")
      return JSON.stringify([...routes].map(([to, dev]) => ({ dst: to.endsWith("/0") ? "default" : to, dev })));
    if (kind === "route" && verb === "replace") routes.set(rest[0] ?? "", rest[2] ?? "");
    if (kind === "route" && verb === "del") routes.delete(rest[0] ?? "");
    return "";
  }
}

function ruleJson(rule: string): Record<string, unknown> {
  const words = rule.split(" ");
  const after = (word: string): string | undefined =>
    words.includes(word) ? words[words.indexOf(word) + 1] : undefined;
  const number = (text: string | undefined): number | undefined => (text === undefined ? undefined : Number(text));
  const [uid] = after("uidrange")?.split("-") ?? [];
  const [src, srclen] = after("from")?.split("/") ?? ["all"];
  const [dst, dstlen] = after("to")?.split("/") ?? [];
  return {
    priority: number(after("pref")),
    fwmark: after("fwmark"),
    src,
    srclen: number(srclen),
    dst,
    dstlen: number(dstlen),
    uid_start: number(uid),
    uid_end: number(uid),
    ipproto: after("ipproto"),
    dport: number(after("dport")),
    table: after("lookup"),
    suppress_prefixlen: number(after("suppress_prefixlength")),
    action: words.includes("unreachable") ? "unreachable" : undefined,
  };
}

/** A WireGuard of which the test says who answers. */
export class ModelBackend implements Backend {
  readonly kind: "kernel" | "userspace";
  want: WantInterface | undefined;
  closed = false;
  /** Datagrams of the agent's own that were sent from the interface's port. */
  readonly sent: { readonly to: Endpoint; readonly datagram: Uint8Array }[] = [];
  readonly probes: Probes = {
    send: (to, datagram) => void this.sent.push({ to, datagram }),
    onReceive: undefined,
  };
  readonly answering = new Map<Key, Partial<PeerState>>();
  readonly #machine: ModelMachine;

  constructor(kind: "kernel" | "userspace", machine: ModelMachine) {
    this.kind = kind;
    this.#machine = machine;
  }

  async set(want: WantInterface): Promise<void> {
    this.want = want;
    this.#machine.link ??= { up: false, mtu: want.mtu };
  }

  async point(publicKey: Key, endpoint: Endpoint): Promise<void> {
    if (this.want === undefined) return;
    const peers = this.want.peers.map((peer) => (peer.publicKey === publicKey ? { ...peer, endpoint } : peer));
    this.want = { ...this.want, peers };
  }

  async state(): Promise<InterfaceState> {
    const { name = "exn0", listenPort = 0, peers = [] } = this.want ?? {};
    const states = peers.map(({ publicKey, endpoint }) => ({
      publicKey,
      receivedBytes: 0,
      sentBytes: 0,
      ...(endpoint === undefined ? {} : { endpoint }),
      ...this.answering.get(publicKey),
    }));
    return { name, listenPort, peers: states, warnings: [] };
  }

  async close(): Promise<void> {
    this.closed = true;
    this.#machine.link = undefined;
    this.#machine.addresses.clear();
    for (const family of [4, 6] as const)
      for (const [to, dev] of this.#machine.routes[family])
        if (dev === this.want?.name) this.#machine.routes[family].delete(to);
  }
}

/** A disk that outlives its agent. */
export function modelFiles(content = new Map<string, string>()): Files {
  const text = (value: string | Uint8Array): string =>
    typeof value === "string" ? value : Buffer.from(value).toString();
  return {
    read: async (path) => {
      const found = content.get(path);
      return found === undefined ? undefined : new TextEncoder().encode(found);
    },
    readText: async (path) => content.get(path),
    write: async (path, value) => void content.set(path, text(value)),
    remove: async (path) => void content.delete(path),
    list: async (path) => [...content.keys()].filter((one) => one.startsWith(`${path}/`)),
  };
}
