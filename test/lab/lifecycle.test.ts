import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { readConfig, readCredentials } from "../../src/cli/config.js";
import { namespaceOf } from "../../src/lab/internet.js";
import { topology } from "../../src/lab/topology.js";
import { localFiles } from "../../src/sys/files.js";

/** The real lab on this machine: needs root, and a machine on which nobody else has it up. */

const MAIN = fileURLToPath(new URL("../../src/main.js", import.meta.url));
/** Present while a test's lab may be up, so that the next run clears what a killed one left, and nobody else's. */
const OURS = join(tmpdir(), "exitnode-lab-test.owner");
const COMMAND_MS = 120_000;
/** For a command that builds the container template, where there is none yet. */
const TEMPLATE_MS = 300_000;

type Ran = { code: number; stdout: string; stderr: string };
const home = mkdtempSync(join(tmpdir(), "exn-lab-home-"));
const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
const env = {
  ...process.env,
  HOME: home,
  XDG_CONFIG_HOME: "",
  XDG_CACHE_HOME: cache,
  EXITNODE_CONFIG: join(home, "config"),
};

function run(argv: readonly string[], timeout = COMMAND_MS): Promise<Ran> {
  const [file = "", ...args] = argv;
  return new Promise((resolve) =>
    execFile(file, args, { env, timeout, encoding: "utf8" }, (error, stdout, stderr) =>
      resolve({ code: typeof error?.code === "number" ? error.code : error === null ? 0 : -1, stdout, stderr }),
    ),
  );
}

const lab = (...args: string[]): Promise<Ran> => run([process.execPath, MAIN, "lab", ...args]);
const inside = (place: string, ...command: string[]): Promise<Ran> =>
  run(["ip", "netns", "exec", namespaceOf(place), ...command]);

async function must(running: Promise<Ran>): Promise<string> {
  const { code, stdout, stderr } = await running;
  assert.equal(code, 0, stderr || stdout);
  return stdout;
}

/** Starts a Node program in a place and waits for its first line; ended by the lab going down, or by the caller. */
async function listener(place: string, source: string): Promise<ChildProcess> {
  const child = spawn("ip", ["netns", "exec", namespaceOf(place), process.execPath, "-e", source], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(createInterface({ input: child.stdout }), "line");
  return child;
}

/** What the lab could leave on a machine. Namespaces of others that come and go meanwhile are left out. */
async function traces(): Promise<string[]> {
  const own = new Set(topology.places.map(({ name }) => namespaceOf(name)));
  const foreign = (line: string): boolean => {
    const name = /exn-[a-z0-9]+/.exec(line)?.[0];
    return name !== undefined && name !== topology.machine.name && !own.has(name);
  };
  const listed = await Promise.all([
    must(run(["ip", "-o", "-br", "link"])),
    must(run(["ip", "-4", "route", "show", "table", "all"])),
    must(run(["ip", "-6", "route", "show", "table", "all"])),
    must(run(["ip", "netns"])),
  ]);
  const etc = [...own].map((namespace) => `/etc/netns/${namespace}`);
  const files = [...etc, "/run/exitnode-lab"].filter((path) => existsSync(path));
  const processes = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return [readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")];
      } catch {
        return [];
      }
    })
    .filter((line) => line.includes("/run/exitnode-lab") || /main\.js lab serve-/.test(line));
  const mounts = readFileSync("/proc/mounts", "utf8");
  return [...listed, mounts, ...files, ...processes]
    .flatMap((text) => text.split("\n"))
    .map((line) => line.replace(/ expires \S+| \(id: \d+\)/g, "").trim())
    .filter((line) => line !== "" && !foreign(line))
    .sort();
}

const state = async (): Promise<string> => JSON.parse(await must(lab("status", "--json"))).state;

/** Why the tests cannot run here; undefined when they can. */
async function obstacle(): Promise<string | undefined> {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "the lab needs root on Linux";
  if (process.env.EXITNODE_LAB_PLACE !== undefined) return "this is inside the lab";
  if (existsSync(OURS)) await must(lab("down"));
  return (await state()) === "absent" ? undefined : "a lab is up on this machine: exitnode lab down";
}

const why = await obstacle();

describe("the lab", { skip: why ?? false }, () => {
  let clean: string[] = [];

  before(async () => {
    writeFileSync(OURS, "");
    clean = await traces();
  });
  after(async () => {
    await must(lab("down"));
    rmSync(OURS);
    rmSync(home, { recursive: true });
  });

  for (const line of ["building an Internet", "starting "]) {
    test(`comes up after a \`lab up\` that was killed while ${line.trim()}`, async () => {
      await killAt(line);
      await must(lab("up"));
      assert.equal(await must(inside("laptop", "curl", "-4s", "http://whoami.lab/")), "198.51.100.88\n");
    });

    test(`leaves nothing after a \`lab up\` that was killed while ${line.trim()} and a \`lab down\``, async () => {
      await must(lab("down"));
      await killAt(line);
      await must(lab("down"));
      assert.deepEqual(await traces(), clean);
    });
  }

  test("a second `lab up` changes nothing", async () => {
    await must(lab("up"));
    const earlier = await must(lab("status", "--json"));
    const again = JSON.parse(await must(lab("up", "--json")));
    assert.equal(again.changed, false);
    assert.equal(await must(lab("status", "--json")), earlier);
  });

  test("a daemon that was killed is started again, and only that one", async () => {
    const [first, ...others] = JSON.parse(await must(lab("status", "--json"))).daemons;
    process.kill(first.pid, "SIGKILL");
    const again = JSON.parse(await must(lab("up", "--json")));
    assert.deepEqual(again.started, [first.name]);
    assert.deepEqual(JSON.parse(await must(lab("status", "--json"))).daemons.slice(1), others);
  });

  test("two `lab up` at once do not meet: one is told to wait", async () => {
    const holder = spawn(process.execPath, [
      "-e",
      'require("net").createServer().listen("\\0exitnode-lab",()=>console.log(1))',
    ]);
    await once(holder.stdout, "data");
    const refused = await lab("up", "--json");
    holder.kill("SIGKILL");
    await once(holder, "exit");
    assert.equal(JSON.parse(refused.stdout).error.code, "lab-busy");
  });

  test("the laptop is seen with the café's public IPv4 address, and with its own IPv6 address", async () => {
    assert.equal(await must(inside("laptop", "curl", "-4s", "http://whoami.lab/")), "198.51.100.88\n");
    assert.equal(await must(inside("laptop", "curl", "-6s", "http://whoami.lab/")), "2001:db8:88:1::50\n");
    assert.equal(await must(inside("nas", "curl", "-4s", "http://whoami.lab/")), "203.0.113.77\n");
    assert.equal(await must(inside("nas", "curl", "-6s", "http://whoami.lab/")), "2001:db8:77:1::20\n");
  });

  test("a trace from the laptop names every hop, in order, over both families", async () => {
    const hops = ["cafe-router.lab", "gw.cafe-isp.lab", "core1.internet.lab", "web.lab"];
    for (const family of ["-4", "-6"]) {
      const out = await must(inside("laptop", "traceroute", family, "-w20", "-q1", "web.lab"));
      assert.deepEqual(
        out
          .trim()
          .split("\n")
          .slice(1)
          .map((line) => line.trim().split(/\s+/)[1]),
        hops,
      );
    }
    const home = await must(inside("nas", "traceroute", "-4", "-w20", "-q1", "vps.lab"));
    assert.deepEqual(
      home
        .trim()
        .split("\n")
        .slice(1)
        .map((line) => line.trim().split(/\s+/)[1]),
      ["home-router.home", "gw.home-isp.lab", "core1.internet.lab", "vps.lab"],
    );
  });

  test("a download is what its digest says", async () => {
    const sum = await must(inside("laptop", "sh", "-c", "curl -s http://download.lab/bytes/3000001 | sha256sum"));
    assert.equal(
      sum.split(" ")[0],
      (await must(inside("laptop", "curl", "-s", "http://download.lab/sha256/3000001"))).trim(),
    );
  });

  test("the home router's forwarded ports reach 198.18.77.50, from the Internet and from the home itself", async () => {
    await must(inside("pve1", "ip", "address", "add", "198.18.77.50/32", "dev", "vmbr0"));
    const exit = await listener(
      "pve1",
      `const udp = require("dgram").createSocket("udp4").on("message", (m, from) => udp.send("udp:" + m, from.port, from.address));
       udp.bind(51820, "198.18.77.50", () => require("net").createServer((s) => s.end("tcp")).listen(443, "198.18.77.50", () => console.log("ready")));`,
    );
    for (const place of ["web", "nas"]) {
      assert.equal(
        await must(inside(place, process.execPath, "-e", ASK_UDP, "203.0.113.77", "51820")),
        "udp:hello\n",
        place,
      );
      assert.equal(await must(inside(place, process.execPath, "-e", ASK_TCP, "203.0.113.77", "443")), "tcp\n", place);
    }
    exit.kill("SIGKILL");
    await once(exit, "exit");
    await must(inside("pve1", "ip", "address", "del", "198.18.77.50/32", "dev", "vmbr0"));
  });

  test("IPv6 that nobody at home asked for is dropped, and what the home asked for comes back", async () => {
    assert.match(await must(inside("pve1", "curl", "-6s", "http://[2001:db8:77:1::20]/")), /home server/);
    const timedOut = 28;
    assert.equal((await inside("web", "curl", "-6s", "-m1", "http://[2001:db8:77:1::20]/")).code, timedOut);
    assert.equal((await inside("web", "curl", "-4s", "-m1", "http://203.0.113.77/")).code, timedOut);
  });

  test("NAT kinds differ as RFC 4787 says: the mapping per destination, and UDP", async () => {
    const reflectors = await Promise.all(
      ["web", "vps"].map((place) =>
        listener(
          place,
          'const u = require("dgram").createSocket("udp4").on("message", (m, f) => u.send(String(f.port), f.port, f.address)); u.bind(7, () => console.log("ready"));',
        ),
      ),
    );
    const ports = async (withinMs = 20_000): Promise<string[]> =>
      (await must(inside("laptop", process.execPath, "-e", ASK_BOTH, String(withinMs)))).trim().split(" ");
    const [one, other] = await ports();
    assert.equal(one, other, "an ordinary router keeps the port");
    await must(lab("nat", "cafe", "symmetric"));
    const [third, fourth] = await ports();
    assert.notEqual(third, fourth, "a symmetric one takes another per destination");
    await must(lab("nat", "cafe", "udp-blocked"));
    assert.deepEqual(await ports(800), ["none"]);
    await must(lab("nat", "cafe", "address-and-port-dependent"));
    for (const reflector of reflectors) reflector.kill("SIGKILL");
  });

  test("`lab up` with options changes a lab that is up, says so, and a second time changes nothing", async () => {
    const options = ["--cafe-nat", "double", "--forward", "no"];
    const { changed, built, situation } = JSON.parse(await must(lab("up", "--json", ...options)));
    assert.deepEqual([changed, built, situation.cafe.nat, situation.forward], [true, false, "double", false]);
    assert.equal(JSON.parse(await must(lab("up", "--json", ...options))).changed, false);
    assert.match(await must(lab("status")), /cafe reaches the Internet as double[\s\S]*forwards no ports/);
    assert.equal(await must(inside("laptop", "curl", "-4s", "http://whoami.lab/")), "198.51.100.120\n");
    await must(lab("up", "--cafe-nat", "ordinary", "--forward", "yes"));
    await must(lab("move", "laptop", "mobile"));
    assert.equal(await must(lab("exec", "laptop", "curl", "-4s", "http://whoami.lab/")), "192.0.2.130\n");
    // As a change leaves it that was killed when the laptop was on its way home: the file says so, the record does not.
    const away = JSON.parse(await must(lab("status", "--json"))).situation;
    writeFileSync("/run/exitnode-lab/situation.pending", JSON.stringify({ ...away, laptopAt: "home" }));
    await must(run(["ip", "-n", "exn-mobile", "link", "set", "lan-laptop", "netns", "exn-home"]));
    await must(lab("move", "laptop", "cafe"));
    assert.equal(await must(lab("exec", "laptop", "curl", "-4s", "http://whoami.lab/")), "198.51.100.88\n");
    for (const wrong of ["nat cafe moon", "link vps up", "loss cafe 101", "mtu cafe"])
      assert.match((await lab(...wrong.split(" "))).stderr, /usage|missing/, wrong);
  });

  test("the vps as a machine of its own runs systemd, lets this administrator in by SSH, and serves both families", async () => {
    await must(run([process.execPath, MAIN, "lab", "up", "--vps", "yes"], TEMPLATE_MS));
    const { vps } = JSON.parse(await must(lab("status", "--json")));
    assert.equal(vps.running, true);
    const ssh = (command: string): Promise<string> => must(run(["ssh", "-F", vps.sshConfig, vps.ssh, command]));
    assert.equal(await ssh("systemctl is-system-running --wait; cat /proc/1/comm"), "running\nsystemd\n");
    await ssh(
      'systemd-run --unit=served node -e \'require("http").createServer((q, r) => r.end("vps")).listen(443, "::")\'',
    );
    await ssh("until ss -lnt | grep -q :443; do sleep 0.05; done");
    for (const family of ["-4", "-6"])
      assert.equal(await must(inside("laptop", "curl", family, "-s", "http://vps.lab:443/")), "vps", family);
    await must(lab("up", "--vps", "no"));
    assert.match(await must(inside("vps", "ip", "-br", "address")), /192\.0\.2\.22/);
  });

  test("the administrator's config has the Proxmox host twice, and both logins work", async () => {
    const { hosts } = await readConfig(localFiles, env.EXITNODE_CONFIG);
    const credentials = await readCredentials(localFiles, env.EXITNODE_CONFIG);
    assert.deepEqual(Object.keys(hosts), ["lab", "lab-token"]);
    const token = `PVEAPIToken=${hosts["lab-token"]?.login}=${credentials.hosts["lab-token"]?.secret}`;
    const url = `${hosts.lab?.url}/api2/json`;
    assert.match(await must(run(["curl", "-ks", "-H", `Authorization: ${token}`, `${url}/version`])), /"release"/);
    const form = `username=${hosts.lab?.login}&password=${credentials.hosts.lab?.secret}`;
    assert.match(await must(run(["curl", "-ks", "-d", form, `${url}/access/ticket`])), /"ticket"/);
  });

  test("`lab exec` passes input, output and exit code through, and runs this very program as exitnode", async () => {
    assert.equal((await lab("exec", "laptop", "--", "sh", "-c", "exit 7")).code, 7);
    assert.equal((await lab("exec", "laptop", "sh", "-c", "kill -9 $$")).code, 137);
    const version = await must(run([process.execPath, MAIN, "--version"]));
    assert.equal(await must(lab("exec", "laptop", "exitnode", "--version")), version);
    assert.equal(
      await must(lab("exec", "vps", "sh", "-c", 'echo "$EXITNODE_VAR"')),
      "/var/lib/exitnode-lab/places/vps/var\n",
    );
    assert.match((await lab("exec", "laptop", "exitnode", "lab", "down")).stderr, /\[lab-inside\]/);
    assert.match((await lab("exec", "moon", "true")).stderr, /\[place-unknown\]/);
  });

  test("`lab down` ends what runs in the places, and leaves nothing behind", async () => {
    const left = await listener(
      "laptop",
      'process.on("SIGTERM", () => {}); setInterval(() => {}, 1e6); console.log("ready")',
    );
    await must(lab("down"));
    if (left.exitCode === null && left.signalCode === null) await once(left, "exit");
    assert.equal(left.signalCode, "SIGKILL", "it ignored the request to end");
    assert.deepEqual(await traces(), clean);
    assert.deepEqual((await readConfig(localFiles, env.EXITNODE_CONFIG)).hosts, {});
    assert.deepEqual((await readCredentials(localFiles, env.EXITNODE_CONFIG)).hosts, {});
    assert.equal(JSON.parse(await must(lab("down", "--json"))).changed, false);
  });
});

/** Ends a `lab up` without warning when it says the line. One that was done before this process heard it says it again. */
async function killAt(line: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    const child = spawn(process.execPath, [MAIN, "lab", "up"], { env, stdio: ["ignore", "ignore", "pipe"] });
    createInterface({ input: child.stderr }).on("line", (said) => {
      if (said.startsWith(line)) child.kill("SIGKILL");
    });
    const [, signal] = await once(child, "exit");
    if (signal === "SIGKILL" && (await state()) !== "up") return;
    assert.ok(tries < 5, `${tries} times it was not killed while ${line}`);
    await must(lab("down"));
  }
}

const ASK_UDP = `const [to, port] = process.argv.slice(1), u = require("dgram").createSocket("udp4");
u.on("message", (m) => { console.log(String(m)); process.exit(); }).send("hello", Number(port), to);
setTimeout(() => process.exit(1), 30000);`;

const ASK_TCP = `const [to, port] = process.argv.slice(1);
require("net").connect(Number(port), to).on("data", (d) => console.log(String(d))).setTimeout(30000, () => process.exit(1));`;

/** The port each of two destinations sees of one socket, or "none". */
const ASK_BOTH = `const u = require("dgram").createSocket("udp4"), seen = {};
u.on("message", (m, from) => { seen[from.address] = String(m); if (Object.keys(seen).length === 2) done(); });
for (const to of ["192.0.2.80", "192.0.2.22"]) u.send("?", 7, to);
const done = () => { console.log(Object.values(seen).join(" ") || "none"); process.exit(); };
setTimeout(done, Number(process.argv[1]));`;
