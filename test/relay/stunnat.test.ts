import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

/**
 * A network's only relay, found out about by real UDP through the kernel's own NAT:
 *
 *   device 192.168.78.20 ── lan [router] wan 203.0.113.77 ── relay 203.0.113.1, on two ports
 *   a relay in the home, 192.168.78.50, to which the router hands on only what comes in from outside
 */
const [DEVICE, HOME, ROUTER, RELAY] = ["exn-rn-dev", "exn-rn-lan", "exn-rn-rtr", "exn-rn-net"];
const PLACES = [DEVICE, HOME, ROUTER, RELAY];
const PORTS = ["3478", "41000"];
const program = fileURLToPath(new URL("./stunplace.js", import.meta.url));
const missing = process.getuid?.() !== 0 && "needs root";

const run = (line: string, input = ""): string => {
  const [command = "", ...args] = line.split(" ");
  return execFileSync(command, args, { encoding: "utf8", input, stdio: "pipe" });
};

/** `nat` is what the router does with what leaves; `also` is another chain. */
function route(nat: string, also = ""): void {
  run(
    `ip netns exec ${ROUTER} nft -f -`,
    `flush ruleset
table ip home {
  chain leaving { type nat hook postrouting priority srcnat; oifname "wan" ${nat}; }
  chain entering { type nat hook prerouting priority dstnat; iifname "wan" udp dport { 3478, 41000 } dnat to 192.168.78.50; }
  chain passing { type filter hook forward priority filter; ${also} }
}
`,
  );
}

class Place {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(namespace: string | undefined, ...argv: readonly string[]) {
    const args = ["netns", "exec", namespace ?? "", process.execPath, program, ...argv];
    this.#process = spawn("ip", args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface(this.#process.stdout ?? assert.fail("no stdout"))[Symbol.asyncIterator]();
  }

  async line(): Promise<string> {
    const { done, value } = await this.#lines.next();
    return done === true ? assert.fail("it has ended") : value;
  }

  async ask(): Promise<{ kind: string; is: string; means: string }> {
    this.#process.stdin?.write("\n");
    return JSON.parse(await this.line());
  }

  async end(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const gone = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await gone;
  }
}

describe("one relay through a router of namespaces", { skip: missing, timeout: 120_000 }, () => {
  const places: Place[] = [];
  const started = async (...argv: ConstructorParameters<typeof Place>): Promise<Place> => {
    const place = new Place(...argv);
    places.push(place);
    assert.equal(await place.line(), "ready");
    return place;
  };
  const tearDown = (): void => {
    const there = run("ip netns list")
      .split("\n")
      .map((line) => line.split(" ")[0] ?? "");
    for (const name of PLACES) if (there.includes(name)) run(`ip netns delete ${name}`);
  };

  before(async () => {
    tearDown();
    for (const name of PLACES) run(`ip netns add ${name}`);
    for (const name of PLACES) run(`ip -n ${name} link set lo up`);
    run(`ip -n ${ROUTER} link add lan type bridge`);
    for (const [name, address] of [
      [DEVICE, "192.168.78.20"],
      [HOME, "192.168.78.50"],
    ]) {
      run(`ip -n ${ROUTER} link add ${name} type veth peer name eth0 netns ${name}`);
      run(`ip -n ${ROUTER} link set ${name} master lan up`);
      run(`ip -n ${name} address add ${address}/24 dev eth0`);
      run(`ip -n ${name} link set eth0 up`);
      run(`ip -n ${name} route add default via 192.168.78.1`);
    }
    run(`ip -n ${ROUTER} link add wan type veth peer name eth0 netns ${RELAY}`);
    for (const [name, link, address] of [
      [ROUTER, "lan", "192.168.78.1/24"],
      [ROUTER, "wan", "203.0.113.77/24"],
      [RELAY, "eth0", "203.0.113.1/24"],
    ]) {
      run(`ip -n ${name} address add ${address} dev ${link}`);
      run(`ip -n ${name} link set ${link} up`);
    }
    run(`ip netns exec ${ROUTER} sysctl -qw net.ipv4.ip_forward=1`);
    await started(RELAY, ...PORTS);
    await started(HOME, ...PORTS);
  });

  after(async () => {
    await Promise.all(places.map((place) => place.end()));
    tearDown();
  });

  for (const { router, nat, also, found } of [
    {
      router: "that keeps the port",
      nat: "masquerade",
      found: { kind: "easy", is: "endpoint-independent mapping, as far as one server can tell, the port is kept" },
    },
    {
      router: "that draws a port per destination",
      nat: "masquerade fully-random",
      found: { kind: "hard", is: "address-and-port-dependent mapping" },
    },
    {
      router: "whose firewall lets the second port through to nobody",
      nat: "masquerade",
      also: "udp dport 41000 drop;",
      found: {
        kind: "unknown",
        is: "not known: a single STUN port answered, and a NAT's kind shows in the difference",
        means: "no answer from 203.0.113.1:41000: a firewall before the relay may have to let in udp/41000",
      },
    },
  ])
    test(`a router ${router}: ${found.kind}`, async () => {
      route(nat, also);
      const device = await started(DEVICE, ...PORTS, "https://203.0.113.1");
      const { kind, is, means } = await device.ask();
      assert.deepEqual({ kind, is, means }, { means, ...found });
    });

  test("a relay in the same home, whose public address leads nowhere from within, is asked at its own: unknown", async () => {
    route("masquerade");
    const device = await started(DEVICE, ...PORTS, "https://203.0.113.77", "https://192.168.78.50");
    const { kind, is } = await device.ask();
    assert.equal(kind, "unknown");
    assert.equal(is, "not known: only a relay in this network answered, which does not see what the router does");
  });
});
