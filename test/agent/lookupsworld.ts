import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { LeakTest } from "../../src/cli/leaktest.js";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { keyOf } from "../../src/kit/key.js";
import type { Millis } from "../../src/kit/time.js";
import { localExec, mustRun } from "../../src/sys/exec.js";
import { removeNamespace } from "../engine/removenamespace.js";
import { AGENT_UID, KEEPER_BIN } from "./keepermachine.js";

/**
 * A host between a café (its router 192.168.7.1, whose resolver answers everything with CAFE) and an exit on a plain
 * link named like the tunnel's device (100.64.0.1, whose resolver answers with EXIT). The Internet's resolver
 * 203.0.113.53 is there on both sides, and answers with the side it was reached by.
 */
export const CAFE = "192.0.2.66";
export const EXIT = "192.0.2.99";
export const OWN_RESOLVER = "203.0.113.53";
/** Without a file for its number: of two that begin at once and write the same one, one gives up. */
export const DNSMASQ = "dnsmasq --conf-file=/dev/null --pid-file= --no-hosts --no-resolv --bind-interfaces";
const DEVICE = "exn0";
const PATH = `${KEEPER_BIN}:${process.env.PATH}`;
const PROGRAM = fileURLToPath(new URL("./lookupsagent.js", import.meta.url));

export const MAP = {
  seq: 1,
  self: { id: "d1", name: "laptop", role: "device", addresses: ["100.64.0.7", "fd7e:1::7"] },
  ranges: ["100.64.0.0/10", "fd7e:1::/48"],
  mtu: 1280,
  peers: [
    {
      ...{ id: "d0", name: "home", role: "exit-node", publicKey: keyOf(hash(utf8("home"))), online: true },
      addresses: ["100.64.0.1", "fd7e:1::1"],
      routes: ["0.0.0.0/0", "::/0"],
      endpoints: [],
      resolvers: ["100.64.0.1"],
    },
  ],
  names: { domain: "home.example", records: [{ name: "nas", addresses: ["192.168.1.9"] }], split: [], resolvers: [] },
};

type Script = { next(): Promise<string>; go(): void; end(): Promise<void> };

export class LookupsWorld {
  readonly folder = mkdtempSync(join(tmpdir(), "exn-n-"));
  readonly places: { readonly host: string; readonly cafe: string; readonly exit: string };
  /** Before a command on the host. */
  enter: readonly string[];
  readonly #capture: { readonly child: ChildProcess; readonly lines: string[] }[] = [];

  constructor(prefix = "exn-n-") {
    this.places = { host: `${prefix}host`, cafe: `${prefix}cafe`, exit: `${prefix}exit` };
    this.enter = ["ip", "netns", "exec", this.places.host];
  }

  async raise(): Promise<void> {
    await this.#remove();
    for (const place of Object.values(this.places)) {
      await mustRun(localExec, ["ip", "netns", "add", place]);
      await mustRun(localExec, ["ip", "netns", "exec", place, "ip", "link", "set", "lo", "up"]);
    }
    const { host, cafe, exit } = this.places;
    await this.must(host, `ip link add eth0 type veth peer name lan netns ${cafe}`);
    await this.must(host, `ip link add ${DEVICE} type veth peer name tunnel netns ${exit}`);
    await this.must(host, "ip address add 192.168.7.2/24 dev eth0");
    await this.must(host, "ip link set eth0 up");
    await this.must(host, "ip route add default via 192.168.7.1");
    await this.must(cafe, "ip address add 192.168.7.1/24 dev lan");
    await this.must(cafe, `ip address add ${OWN_RESOLVER}/32 dev lo`);
    await this.must(cafe, "ip link set lan up");
    await this.must(exit, "ip address add 100.64.0.1/32 dev tunnel");
    await this.must(exit, "ip address add fd7e:1::1/128 dev tunnel nodad");
    await this.must(exit, `ip address add ${OWN_RESOLVER}/32 dev lo`);
    await this.must(exit, "ip link set tunnel up");
    await this.must(exit, "ip route add 100.64.0.7/32 dev tunnel");
    await this.must(exit, "tee /proc/sys/net/ipv4/conf/tunnel/proxy_arp", "1\n");
    const dnsmasq = `${DNSMASQ} --local-ttl=600`;
    await this.must(cafe, `${dnsmasq} --listen-address=192.168.7.1,${OWN_RESOLVER} --address=/#/${CAFE}`);
    await this.must(exit, `${dnsmasq} --listen-address=100.64.0.1,${OWN_RESOLVER} --address=/#/${EXIT}`);
  }

  async must(place: string, line: string, input?: string): Promise<string> {
    const argv = ["ip", "netns", "exec", place, ...line.split(" ")];
    return mustRun(localExec, argv, input === undefined ? {} : { input });
  }

  inHost(line: string): Promise<string> {
    return this.must(this.places.host, line);
  }

  /** What the host's /etc/resolv.conf says: `ip netns exec` puts it there. */
  resolvConf(text: string): void {
    mkdirSync(`/etc/netns/${this.places.host}`, { recursive: true });
    writeFileSync(`/etc/netns/${this.places.host}/resolv.conf`, text);
  }

  agent(map: unknown = MAP): LookupsAgent {
    rmSync(this.folder, { recursive: true, force: true });
    mkdirSync(this.folder, { recursive: true, mode: 0o777 });
    chmodSync(this.folder, 0o777);
    const caps = ["--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin"];
    const user = [
      "setpriv",
      `--reuid=${AGENT_UID}`,
      `--regid=${AGENT_UID}`,
      "--clear-groups",
      ...caps,
      "--no-new-privs",
    ];
    const program = [process.execPath, PROGRAM, this.folder, JSON.stringify(map)];
    return new LookupsAgent([...this.enter, ...user, ...program]);
  }

  /** An address by getaddrinfo, as a program on the host gets it: the code of the failure when there is none. */
  async lookUp(name: string): Promise<string> {
    const script = `require("node:dns").lookup(${JSON.stringify(name)},{family:4},(e,a)=>console.log(e?e.code:a))`;
    const ran = await localExec.run([...this.enter, process.execPath, "-e", script]);
    return ran.stdout.trim();
  }

  /** One question to one server, over UDP or TCP as `script` has it: what node:dns makes of it. */
  async ask(server: string, call: string): Promise<string> {
    const script = `const r=new (require("node:dns").Resolver)({timeout:20000,tries:1});r.setServers([${JSON.stringify(server)}]);
r.${call.replace(/\)$/, "")},(e,f)=>console.log(e?e.code:JSON.stringify(f)))`;
    const ran = await localExec.run([...this.enter, process.execPath, "-e", script]);
    return ran.stdout.trim();
  }

  /** Records the look-ups on the café's link until the returned function is called; it gives them back. */
  async listen(): Promise<() => Promise<string[]>> {
    const argv = ["netns", "exec", this.places.cafe, "tcpdump", "-n", "-l", "--immediate-mode", "-i", "lan", QUERIES];
    const child = spawn("ip", argv, { stdio: ["ignore", "pipe", "pipe"] });
    const lines: string[] = [];
    this.#capture.push({ child, lines });
    createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
    for await (const line of createInterface({ input: child.stderr })) if (/listening on/.test(line)) break;
    return async () => {
      // What was sent before this is captured before it.
      await localExec.run([...this.enter, "setpriv", `--reuid=${AGENT_UID}`, "--clear-groups", ...MARK]);
      while (!lines.some((line) => line.includes("mark.test"))) await once(child.stdout, "data");
      child.kill();
      return lines.filter((line) => !line.includes("mark.test"));
    };
  }

  /** What the leak test says of these look-ups, run as a person on the host would. */
  async leakTest(dns: unknown): Promise<{ found?: LeakTest; tookMs: Millis }> {
    const argv = [
      process.execPath,
      LEAK,
      this.folder,
      JSON.stringify({ dns, uid: AGENT_UID, addresses: MAP.self.addresses }),
    ];
    return JSON.parse(await mustRun(localExec, [...this.enter, ...argv]));
  }

  /** A program on the host that says a line now and then, and hears a word. */
  spawnInHost(script: string): Script {
    return this.#spawn(this.enter, script);
  }

  spawnIn(place: string, script: string): Script {
    return this.#spawn(["ip", "netns", "exec", place], script);
  }

  #spawn(enter: readonly string[], script: string): Script {
    const [file = "", ...args] = [...enter, process.execPath, "-e", script];
    const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    return {
      next: async () => String((await lines.next()).value),
      go: () => void child.stdin.write("go\n"),
      // Its ports are free for the next one then.
      end: async () => {
        const over = once(child, "exit");
        child.stdin.end();
        await over;
      },
    };
  }

  /** As the supervisor does, as root: whatever an agent left. */
  async clean(): Promise<void> {
    const script = `import(${JSON.stringify(CLEAN)}).then(({ clean }) => clean(${JSON.stringify(this.folder)}))`;
    await mustRun(localExec, [...this.enter, process.execPath, "-e", script], { env: { PATH } });
  }

  async close(): Promise<void> {
    for (const { child } of this.#capture) child.kill();
    await this.#remove();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #remove(): Promise<void> {
    for (const place of Object.values(this.places)) {
      removeNamespace(place);
      rmSync(`/etc/netns/${place}`, { recursive: true, force: true });
    }
  }
}

/** By DNS, DNS over TLS, multicast DNS, LLMNR and NetBIOS; not what the café itself answers. */
const QUERIES = "dst port 53 or dst port 853 or dst port 5353 or dst port 5355 or dst port 137";
const LEAK = fileURLToPath(new URL("./lookupsleak.js", import.meta.url));
const CLEAN = fileURLToPath(new URL("./lookupsclean.js", import.meta.url));
/** A question that leaves by the café's link, as the agent's own may. */
const MARK = [
  process.execPath,
  "-e",
  `const r=new (require("node:dns").Resolver)({timeout:500,tries:1});r.setServers(["192.168.7.1"]);r.resolve4("mark.test",()=>{})`,
];

/** The process of an agent's look-ups. */
export class LookupsAgent {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor([file = "", ...args]: readonly string[]) {
    const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, PATH } });
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  async say(request: unknown): Promise<Record<string, unknown>> {
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
    const { value } = await this.#lines.next();
    return JSON.parse(value ?? "null");
  }

  use(exit: string | undefined, dns?: string): Promise<Record<string, unknown>> {
    return this.say({ exit, dns });
  }

  async stop(signal?: "SIGKILL"): Promise<void> {
    const over = once(this.#child, "exit");
    if (signal === undefined) this.#child.stdin?.end();
    else this.#child.kill(signal);
    await over;
  }
}
