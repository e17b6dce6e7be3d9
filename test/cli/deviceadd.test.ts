import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { keyPairOf } from "../../src/kit/crypto.js";
import type { Cidr, Ip } from "../../src/kit/ip.js";
import { keyBytes, keyOf, parseKey } from "../../src/kit/key.js";
import type { DeviceInfo } from "../../src/wire/adminapi.js";
import { type Administrator, administratorOf } from "../coordinator/administrator.js";
import { type Bench, openBench, type TestDevice } from "../coordinator/bench.js";
import { readWgQuick } from "./wgquick.js";

const LIMIT = { timeout: 180_000 };
const OPEN = "203.0.113.7:40001";
let bench: Bench;
let administrator: Administrator;
let home: TestDevice;

before(async () => {
  bench = await openBench();
  administrator = await administratorOf(bench);
  home = await exit("home");
});
after(() => bench.close());

async function exit(name: string): Promise<TestDevice> {
  const { secret } = await bench.key({ role: "exit-node" });
  const device = await bench.device(name, secret).until(({ map }) => map !== undefined);
  const watcher = bench.device(`watcher-of-${name}`, (await bench.key({ role: "device" })).secret);
  device.client.report({
    endpoints: [OPEN],
    open: [OPEN],
    routes: ["0.0.0.0/0", "::/0"] as Cidr[],
    resolvers: ["192.168.1.1"] as Ip[],
  });
  await watcher.until(({ map }) => map?.peers.some((peer) => peer.endpoints.includes(OPEN)) === true);
  watcher.stop();
  return device;
}
const run = (...args: string[]) => administrator.run("device", ...args);
async function done(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await run(...args);
  assert.equal(code, 0, stderr);
  return { stdout, stderr };
}

test("the configuration alone is on stdout, with the key of the device that was made", LIMIT, async () => {
  const { stdout, stderr } = await done("add", "phone");
  const config = readWgQuick(stdout);
  const { devices } = JSON.parse((await done("list", "--json")).stdout) as { devices: DeviceInfo[] };
  const phone = devices.find(({ name }) => name === "phone");
  assert.equal(keyOf(keyPairOf(keyBytes(parseKey(config.privateKey))).publicKey), phone?.publicKey);
  assert.deepEqual(
    config.address,
    phone?.addresses.map((ip) => `${ip}/${ip.includes(":") ? 128 : 32}`),
  );
  assert.deepEqual(
    [config.publicKey, config.endpoint, config.allowedIps, config.dns, config.mtu],
    [home.publicKey, OPEN, ["0.0.0.0/0", "::/0"], ["192.168.1.1"], 1280],
  );
  assert.match(stderr, /should it get lost: exitnode device remove phone/);
  assert.ok(!stderr.includes(config.privateKey));
  await done("remove", "phone");
});

test("a private key is kept by nobody: the store, the log of changes and the list are without it", LIMIT, async () => {
  const { stdout } = await done("add", "phone", "--json");
  const { privateKey } = readWgQuick((JSON.parse(stdout) as { config: string }).config);
  const kept = await Promise.all(
    ["coordinator.db", "coordinator.db-wal"].map((name) =>
      readFile(join(bench.folder, name), "latin1").catch(() => ""),
    ),
  );
  const said = [(await done("list", "--json")).stdout, (await administrator.run("audit", "--json")).stdout];
  for (const text of [...kept, ...said]) assert.ok(!text.includes(privateKey));
  await done("remove", "phone");
});

test("only the network goes through the tunnel when that is asked for, and no look-ups", LIMIT, async () => {
  const config = readWgQuick(
    (await done("add", "phone", "--only-network", "--endpoint", "home.example.org:443")).stdout,
  );
  assert.deepEqual([config.dns, config.endpoint], [[], "home.example.org:443"]);
  assert.deepEqual(config.allowedIps, home.map?.ranges);
  await done("remove", "phone");
});

test("a file is its owner's alone, and one that is there is not written over", LIMIT, async () => {
  const file = join(bench.folder, "phone.conf");
  const { stdout } = await done("add", "phone", "--out", file);
  const text = await readFile(file, "utf8");
  assert.ok(!stdout.includes(readWgQuick(text).privateKey));
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  const again = await run("add", "tablet", "--out", file);
  assert.match(again.stderr, /is there already \[file-exists\]/);
  const nowhere = await run("add", "tablet", "--out", join(file, "below"));
  assert.match(nowhere.stderr, /tablet was not added \[file-unwritable\]/);
  assert.equal(await readFile(file, "utf8"), text);
  assert.doesNotMatch((await done("list")).stdout, /tablet/);
  await done("remove", "phone");
});

test("a list shows an app for what it is, and its exit node shows whom it serves", LIMIT, async () => {
  assert.match((await done("add", "phone", "--qr")).stdout, /█[\s\S]*Scan from QR code/);
  assert.match((await done("list")).stdout, /^phone +device +100\.64\.\S+ +never seen +WireGuard app, through home$/m);
  assert.match((await administrator.run("status", "home")).stdout, /^WireGuard apps +phone$/m);
  assert.match((await done("expire", "phone")).stdout, /exitnode device never-expire phone/);
  assert.match((await done("never-expire", "phone")).stdout, /lasts until it is revoked/);
  assert.match((await done("revoke", "phone")).stdout, /^phone is shut out; all 1 connected peers confirmed/);
  await done("remove", "phone");
});

const REFUSED: readonly { readonly args: readonly string[]; readonly says: RegExp; readonly code: number }[] = [
  { args: ["Phone"], says: /\[usage\]/, code: 2 },
  { args: ["phone", "--endpoint", "home"], says: /must be HOST:PORT.*, got "home"[\s\S]*\[usage\]/, code: 2 },
  { args: ["phone", "--endpoint", "2001:db8::7:51820"], says: /must be HOST:PORT/, code: 2 },
  { args: ["phone", "--qr", "--out", "phone.conf"], says: /not both \[usage\]/, code: 2 },
  { args: ["phone", "--exit", "nowhere"], says: /no exit node "nowhere"; known: home[\s\S]*--exit home/, code: 1 },
  { args: ["phone", "--exit", "watcher-of-home"], says: /no exit node "watcher-of-home"/, code: 1 },
  { args: ["home"], says: /a device is called "home" already/, code: 1 },
  { args: ["phone", "--user", "nobody"], says: /nobody is called "nobody"/, code: 1 },
];
for (const { args, says, code } of REFUSED)
  test(`device add ${args.join(" ")} is refused, and adds nothing`, LIMIT, async () => {
    const ran = await run("add", ...args);
    assert.deepEqual([ran.code, ran.stdout], [code, ""]);
    assert.match(ran.stderr, says);
    assert.doesNotMatch((await done("list")).stdout, /WireGuard app/);
  });

async function names(): Promise<string[]> {
  const { devices } = JSON.parse((await done("list", "--json")).stdout) as { devices: DeviceInfo[] };
  return devices.map(({ name, tags }) => `${name} ${tags}`);
}

for (const { args, says } of [
  { args: ["rename", "home", "Bad_Name"], says: /got "Bad_Name" \[usage\]\n {2}→ exitnode device rename --help\n$/ },
  { args: ["tag", "home", "a_b"], says: /got "a_b" \[usage\]\n {2}→ exitnode device tag --help\n$/ },
])
  test(
    `device ${args.join(" ")} is refused with what was typed and the next command, and changes nothing`,
    LIMIT,
    async () => {
      const before = await names();
      const ran = await run(...args);
      assert.deepEqual([ran.code, ran.stdout], [2, ""]);
      assert.match(ran.stderr, says);
      assert.deepEqual(await names(), before);
    },
  );

test("of several exit nodes one has to be named", LIMIT, async () => {
  await exit("cabin");
  const { stderr } = await run("add", "phone");
  assert.match(stderr, /several exit nodes: home, cabin \[exit-unsaid\]\n {2}→ exitnode device add phone --exit home/);
  assert.equal(readWgQuick((await done("add", "phone", "--exit", "cabin")).stdout).endpoint, OPEN);
});
