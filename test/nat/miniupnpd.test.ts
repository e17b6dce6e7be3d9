import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";

/** The port mapping cores against miniupnpd on a router of namespaces: LAN, router, and the world outside. */

const GATEWAY = "exn-nat-gw";
const LAN = "exn-nat-lan";
const WORLD = "exn-nat-wan";
// miniupnpd maps no port on an address it knows to be reserved, documentation ranges included. These stay inside.
const OUTSIDE = "11.1.1.1";
const CLIENT = "192.168.77.20";
const NEIGHBOUR = "192.168.77.21";
const PORT = 51_820;
const DEADLINE_MS = 60_000;

const missing = process.getuid?.() !== 0 ? "needs root" : !existsSync("/usr/sbin/miniupnpd") && "needs miniupnpd";

const RULES = `table inet filter {
  chain forward {
    type filter hook forward priority 0; policy drop
    iifname "lan0" accept
    ct state established,related accept
    jump miniupnpd
  }
  chain miniupnpd { }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; oifname "wan0" masquerade; }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}
`;

const CONFIG = `ext_ifname=wan0
ext_ip=${OUTSIDE}
listening_ip=lan0
http_port=5000
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
uuid=6f1b2f4e-0c1c-4b1e-9d53-6d1f2b1a7b11
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
allow 1024-65535 192.168.77.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
`;

const run = (command: string, input = ""): string => {
  const [program = "", ...args] = command.split(" ");
  return execFileSync(program, args, { encoding: "utf8", input, stdio: ["pipe", "pipe", "ignore"] });
};

function cleanUp(): void {
  const there = run("ip netns list")
    .split("\n")
    .map((line) => line.split(" ")[0]);
  for (const name of [GATEWAY, LAN, WORLD]) if (there.includes(name)) run(`ip netns delete ${name}`);
}

/** A program whose lines can be waited for. */
class Program {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  #changed: () => void = () => undefined;

  constructor(argv: readonly string[]) {
    const [program = "", ...args] = argv;
    this.#child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
    for (const input of [this.#child.stdout, this.#child.stderr])
      if (input !== null)
        createInterface({ input }).on("line", (line) => {
          this.#lines.push(line);
          this.#changed();
        });
  }

  /** The rest of the first line that begins so. */
  async until(beginning: string): Promise<string> {
    const deadline = AbortSignal.timeout(DEADLINE_MS);
    for (;;) {
      const line = this.#lines.find((one) => one.includes(beginning));
      if (line !== undefined) return line.slice(line.indexOf(beginning) + beginning.length).trim();
      await new Promise<void>((resolve, reject) => {
        this.#changed = resolve;
        deadline.addEventListener("abort", () => reject(new Error(`no "${beginning}" in:\n${this.#lines.join("\n")}`)));
      });
    }
  }

  write(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  get gone(): Promise<unknown> {
    return this.#child.exitCode === null ? once(this.#child, "exit") : Promise.resolve();
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const { gone } = this;
    this.#child.kill("SIGKILL");
    await gone;
  }
}

const drive = (client: string, ...services: readonly string[]): Program => {
  const driver = fileURLToPath(new URL("./portmapdriver.js", import.meta.url));
  const inside = ["ip", "netns", "exec", LAN, process.execPath, driver];
  return new Program([...inside, "192.168.77.1", client, String(PORT), ...services]);
};

/** From outside to the mapping, through the router: the datagram names the endpoint that it was sent to. */
function dialBack(endpoint: string): void {
  const [address = "", port = ""] = endpoint.split(":");
  execFileSync("ip", ["netns", "exec", WORLD, "bash", "-c", `printf %s ${endpoint} > /dev/udp/${address}/${port}`]);
}

const mappings = (): string => run(`ip netns exec ${GATEWAY} nft list chain inet filter prerouting_miniupnpd`);

describe("against miniupnpd", { skip: missing, timeout: 4 * DEADLINE_MS }, () => {
  let router: Program;
  let folder: string;

  before(async () => {
    cleanUp();
    for (const name of [GATEWAY, LAN, WORLD]) run(`ip netns add ${name}`);
    run(`ip -n ${GATEWAY} link add lan0 type veth peer name eth0 netns ${LAN}`);
    run(`ip -n ${GATEWAY} link add wan0 type veth peer name eth0 netns ${WORLD}`);
    const addresses = [
      [GATEWAY, "lan0", "192.168.77.1/24"],
      [GATEWAY, "wan0", `${OUTSIDE}/24`],
      [LAN, "eth0", `${CLIENT}/24`],
      [LAN, "eth0", `${NEIGHBOUR}/24`],
      [WORLD, "eth0", "11.1.1.2/24"],
    ];
    for (const [name, device, address] of addresses) run(`ip -n ${name} address add ${address} dev ${device}`);
    for (const [name, device] of addresses) run(`ip -n ${name} link set ${device} up`);
    run(`ip -n ${LAN} route add default via 192.168.77.1`);
    run(`ip netns exec ${GATEWAY} sysctl -qw net.ipv4.ip_forward=1`);
    run(`ip netns exec ${GATEWAY} nft -f -`, RULES);
    folder = mkdtempSync(join(tmpdir(), "exn-nat-"));
    const [config, pid] = [join(folder, "miniupnpd.conf"), join(folder, "pid")];
    writeFileSync(config, CONFIG);
    router = new Program(["ip", "netns", "exec", GATEWAY, "miniupnpd", "-d", "-f", config, "-P", pid]);
    await router.until("Listening for NAT-PMP/PCP traffic");
  });

  after(async () => {
    await router.stop();
    cleanUp();
    rmSync(folder, { recursive: true });
  });

  const held = async (t: TestContext, driver: Program): Promise<string> => {
    t.after(() => driver.stop());
    const endpoint = await driver.until("verify ");
    dialBack(endpoint);
    assert.equal(await driver.until("mapped "), endpoint);
    assert.match(mappings(), new RegExp(`dport ${endpoint.split(":")[1]} dnat`));
    return endpoint;
  };

  const givenBack = async (driver: Program): Promise<void> => {
    driver.write("stop");
    await driver.gone;
    assert.doesNotMatch(mappings(), /dnat/);
  };

  for (const service of ["pcp", "natpmp", "upnp"])
    test(`${service}: a mapping is made, proven from outside, and given back`, async (t) => {
      const driver = drive(CLIENT, service);
      assert.equal(await held(t, driver), `${OUTSIDE}:${PORT}`);
      await givenBack(driver);
    });

  test("with all three on offer, PCP is asked and the others are not", async (t) => {
    const driver = drive(CLIENT, "upnp", "natpmp", "pcp");
    await held(t, driver);
    assert.equal(await driver.until("by "), "pcp");
    assert.equal(mappings().match(/dnat/g)?.length, 1);
    await givenBack(driver);
  });

  test("upnp: a port that a neighbour holds is not fought over, another one is taken", async (t) => {
    const neighbour = drive(NEIGHBOUR, "natpmp");
    await held(t, neighbour);
    const driver = drive(CLIENT, "upnp");
    const endpoint = await held(t, driver);
    assert.notEqual(endpoint, `${OUTSIDE}:${PORT}`);
    driver.write("stop");
    await driver.gone;
    await givenBack(neighbour);
  });
});
