import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type MapNames, NAMES_DOMAIN_DEFAULT } from "../../src/wire/names.js";
import { type Bench, openBench } from "./bench.js";
import { Member } from "./member.js";

/** Names as an administrator changes them and as devices are told them. */
const LIMIT = { timeout: 120_000 };
let bench: Bench;
before(async () => {
  bench = await openBench();
});
after(() => bench.close());

const names = async (method: string, path = "", body?: unknown): Promise<MapNames> => {
  const { status, body: answer } = await bench.call(method, `/api/v1/names${path}`, body);
  assert.ok(status < 300, `${method} ${path}: ${status} ${JSON.stringify(answer)}`);
  return answer as MapNames;
};
const refused = async (method: string, path: string, body?: unknown): Promise<number> =>
  (await bench.call(method, `/api/v1/names${path}`, body)).status;

test("a change of names is in every device's map at once, and outlives a restart", LIMIT, async () => {
  const member = await Member.join(bench, "told");
  const told = (holds: (now: MapNames) => boolean) =>
    member.until(() => member.map?.names !== undefined && holds(member.map.names));
  assert.deepEqual(member.map?.names, { domain: NAMES_DOMAIN_DEFAULT, records: [], split: [], resolvers: [] });
  await names("PATCH", "", { domain: "home.example" });
  await told(({ domain }) => domain === "home.example");
  await names("PATCH", "", { resolvers: ["9.9.9.9"] });
  await told(({ domain, resolvers }) => domain === "home.example" && resolvers.join() === "9.9.9.9");
  await names("PUT", "/records/nas", { addresses: ["192.168.1.9", "FD00::9"] });
  await told(({ records }) => records[0]?.addresses.join() === "192.168.1.9,fd00::9");
  await names("PUT", "/split/corp.example", { resolvers: ["10.0.0.53"] });
  await told(({ split }) => split[0]?.domain === "corp.example");
  const all = await names("GET");
  await member.leave();
  await bench.restart();
  assert.deepEqual(await names("GET"), all);
  const back = await Member.join(bench, "back");
  assert.deepEqual(back.map?.names, all);
  await names("DELETE", "/records/nas");
  await names("DELETE", "/split/corp.example");
  assert.deepEqual(await names("GET"), { ...all, records: [], split: [] });
  await back.leave();
});

test("writing what is there already changes no map", LIMIT, async () => {
  const member = await Member.join(bench, "calm");
  await names("PUT", "/records/wiki", { addresses: ["192.0.2.7"] });
  await member.until(() => member.map?.names?.records.length === 1);
  const seq = member.map?.seq;
  await names("PUT", "/records/wiki", { addresses: ["192.0.2.7"] });
  await member.settled();
  assert.equal(member.map?.seq, seq);
  await member.leave();
});

for (const { title, method, path, body, status } of [
  { title: "a single label as the domain", method: "PATCH", path: "", body: { domain: "com" }, status: 400 },
  { title: "an unknown field", method: "PATCH", path: "", body: { search: ["x.example"] }, status: 400 },
  { title: "a resolver that is no address", method: "PATCH", path: "", body: { resolvers: ["dns"] }, status: 400 },
  { title: "a record without addresses", method: "PUT", path: "/records/nas", body: { addresses: [] }, status: 400 },
  {
    title: "a record with a strange name",
    method: "PUT",
    path: "/records/a_b",
    body: { addresses: ["192.0.2.1"] },
    status: 400,
  },
  { title: "removing what is not there", method: "DELETE", path: "/records/nobody", status: 404 },
] as const)
  test(`${title} is refused with ${status} and changes nothing`, LIMIT, async () => {
    const before = await names("GET");
    assert.equal(await refused(method, path, body), status);
    assert.deepEqual(await names("GET"), before);
  });
