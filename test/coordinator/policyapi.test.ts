import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Cidr } from "../../src/kit/ip.js";
import type { PolicyInfo, PolicyPreview } from "../../src/wire/policyapi.js";
import { administratorOf } from "./administrator.js";
import { type Bench, openBench, type TestDevice } from "./bench.js";

const LIMIT = { timeout: 120_000 };
let bench: Bench;
let home: TestDevice;
let laptop: TestDevice;
let phone: TestDevice;
before(async () => {
  bench = await openBench();
  home = bench.device("home", (await bench.key({ role: "exit-node" })).secret);
  await home.until(({ map }) => map !== undefined);
  const { secret } = await bench.key({ role: "device", reusable: true });
  laptop = bench.device("laptop", secret);
  await laptop.until(({ map }) => map !== undefined);
  phone = bench.device("phone", secret);
  await phone.until(({ map }) => map !== undefined);
});
after(() => bench.close());

const api = (method: string, path: string, body?: unknown) => bench.call(method, `/api/v1${path}`, body);
const put = (text: string, replaces?: number) =>
  api("PUT", "/policy", { text, ...(replaces === undefined ? {} : { replaces }) });
const ONLY_LAPTOP = `
grants:
  - src: [device:laptop]
    dst: [device:phone]
    ip: [tcp:22]
  - src: [device:laptop]
    dst: [autogroup:internet]
tests:
  - src: device:laptop
    accept: [device:phone:22]
    deny: [device:phone:23]
`;
const peer = ({ map }: TestDevice, name: string) => map?.peers.find((one) => one.name === name);

test("without a policy a map has a filter, and the exit's default route", LIMIT, async () => {
  await laptop.sees("phone");
  assert.deepEqual(peer(laptop, "home")?.routes, ["0.0.0.0/0"]);
  // On a busy machine a filter is told after the peer (MapWriter).
  await laptop.until(({ map }) => map?.filter?.some(({ protocol }) => protocol === "any") === true);
  const { body } = await api("GET", "/policy");
  assert.equal((body as PolicyInfo).version, 0);
});

test("a preview changes nothing; a set policy reaches the devices' maps, routes and filters", LIMIT, async () => {
  const tried = await api("POST", "/policy/preview", { text: ONLY_LAPTOP });
  assert.equal(tried.status, 200);
  const { changes, failed } = tried.body as PolicyPreview;
  assert.deepEqual(failed, []);
  assert.ok(changes.some(({ device, at, loses }) => device === "phone" && at === "home" && loses.length > 0));
  assert.equal(((await api("GET", "/policy")).body as PolicyInfo).version, 0);
  const { status } = await put(ONLY_LAPTOP, 0);
  assert.equal(status, 200);
  await phone.until(({ map }) => map?.peers.every(({ name }) => name !== "home") === true);
  await laptop.until(({ map }) => map?.filter?.length === 0);
  await phone.until(({ map }) => map?.filter?.some(({ ports }) => ports?.[0]?.[0] === 22) === true);
  assert.deepEqual(peer(laptop, "home")?.routes, ["0.0.0.0/0"]);
});

test("a policy made from a version that was replaced meanwhile is refused, and nothing changes", LIMIT, async () => {
  const refused = await put("grants: []", 0);
  assert.equal(refused.status, 412);
  assert.equal((refused.body as { code: string }).code, "policy-changed");
  assert.equal(((await api("GET", "/policy")).body as PolicyInfo).text, ONLY_LAPTOP);
});

for (const { what, text, status, code } of [
  { what: "an error", text: "grants: 7", status: 422, code: "policy-invalid" },
  {
    what: "a test that does not hold",
    text: ONLY_LAPTOP.replace("phone:23", "phone:22"),
    status: 422,
    code: "policy-tests-failed",
  },
])
  test(`a policy with ${what} is refused with its line`, LIMIT, async () => {
    const refused = await put(text);
    assert.equal(refused.status, status);
    const { code: said, detail } = refused.body as { code: string; detail: string };
    assert.equal(said, code);
    assert.match(detail, /^line \d+/);
  });

test("an older version is rolled back to as a newer one, and lasts across a restart", LIMIT, async () => {
  assert.equal((await put("grants: []")).status, 200);
  await laptop.until(({ map }) => map?.peers.length === 0);
  const { body } = await api("POST", "/policy/rollback", { to: 1 });
  assert.equal((body as { saved: number }).saved, 3);
  await laptop.sees("phone");
  await bench.restart();
  assert.equal(((await api("GET", "/policy")).body as PolicyInfo).version, 3);
  assert.equal((await api("POST", "/policy/rollback", { to: 9 })).status, 404);
  const { body: log } = await api("GET", "/policy/versions");
  assert.deepEqual(
    (log as { versions: PolicyInfo[] }).versions.map(({ version }) => version),
    [3, 2, 1],
  );
});

test(
  "a route is in the maps of those who may use it, once it is approved, and until that is withdrawn",
  LIMIT,
  async () => {
    await put(`
grants:
  - { src: [device:laptop], dst: [192.168.9.0/24], ip: [tcp] }
  - { src: [device:laptop, device:phone], dst: [device:phone, device:laptop] }
`);
    const route = "192.168.9.0/24";
    await laptop.until((one) => peer(one, "phone")?.online === true);
    const approved = await api("POST", "/devices/phone/routes", { route });
    assert.deepEqual(approved.body, { device: "phone", route, approvedBy: "administrator", offered: false });
    assert.deepEqual(peer(laptop, "phone")?.routes, []);
    phone.client.report({ endpoints: [], routes: [route as Cidr], resolvers: [] });
    await laptop.until((one) => peer(one, "phone")?.routes[0] === route);
    await phone.until(({ map }) => map?.filter?.some(({ to }) => to.includes(route as Cidr)) === true);
    await api("POST", "/devices/phone/routes/withdraw", { route });
    await laptop.until((one) => peer(one, "phone")?.routes.length === 0);
    const own = await api("POST", "/devices/phone/routes", { route: "100.64.0.0/16" });
    assert.equal(own.status, 409);
  },
);

test(
  "at the command line a policy is previewed, tested, set, logged and rolled back, and a route approved",
  LIMIT,
  async () => {
    const person = await administratorOf(bench);
    const file = join(bench.folder, "policy.yaml");
    await put(ONLY_LAPTOP);
    await writeFile(file, ONLY_LAPTOP.replaceAll("22", "80"));
    const preview = await person.run("policy", "preview", file);
    assert.equal(preview.stdout, "laptop gains tcp:80 on phone\nlaptop loses tcp:22 on phone\n");
    assert.equal((await person.run("policy", "test", file)).stdout, "its test holds\n");
    const unasked = await person.run("policy", "set", file);
    assert.match(unasked.stderr, /laptop gains tcp:80 on phone[\s\S]*unconfirmed/);
    assert.match((await person.run("policy", "show")).stdout, /tcp:22/);
    const set = await person.run("policy", "set", file, "--yes");
    assert.match(set.stdout, /^version \d+ holds\nlaptop gains tcp:80 on phone\n/);
    const { stdout: log } = await person.run("policy", "log");
    assert.match(log, /^VERSION +SET +BY\n/);
    const version = Number(/^version (\d+)/.exec(set.stdout)?.[1]);
    const back = await person.run("policy", "rollback", String(version - 1));
    assert.match(back.stdout, new RegExp(`^version ${version + 1} holds, as ${version - 1} did`));
    await writeFile(file, "grants:\n  - src: [group:famly]\n    dst: ['*']\n");
    const refused = await person.run("policy", "preview", file);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /line 2, grants\[0\]\.src\[0\]: group:famly is not defined/);
    const approved = await person.run("route", "approve", "laptop", "192.168.77.0/24");
    assert.equal(approved.stdout, "192.168.77.0/24 through laptop: approved, not offered now\n");
    assert.match((await person.run("route", "list")).stdout, /laptop +192\.168\.77\.0\/24/);
    assert.equal((await person.run("route", "withdraw", "laptop", "192.168.77.0/24")).code, 0);
  },
);
