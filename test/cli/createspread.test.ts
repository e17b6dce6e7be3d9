import assert from "node:assert/strict";
import { test } from "node:test";
import { type Candidate, spread } from "../../src/cli/createspread.js";
import { Failure } from "../../src/kit/failure.js";

const node = (name: string, online = true) => ({ name, online, fingerprint: `print of ${name}` });
const candidate = (host: string, values: Partial<Candidate> = {}): Candidate => ({
  host,
  wanted: undefined,
  fingerprint: `print of ${host}`,
  nodes: [node("pve1"), node("pve2"), node("pve3")],
  there: undefined,
  ...values,
});
const chosen = (...candidates: Candidate[]): (string | undefined)[][] =>
  [...spread(candidates)].map(([host, found]) => [host, found instanceof Failure ? found.code : found]);

test("each host of a cluster gets the node that answers under its name", () => {
  assert.deepEqual(chosen(candidate("pve2"), candidate("pve1")), [
    ["pve2", "pve2"],
    ["pve1", "pve1"],
  ]);
});

test("two entries for one node get different nodes, and an offline node none", () => {
  const nodes = [node("pve1"), node("pve2", false), node("pve3")];
  assert.deepEqual(chosen(candidate("pve1", { nodes }), candidate("again", { nodes, fingerprint: "print of pve1" })), [
    ["pve1", "pve1"],
    ["again", "pve3"],
  ]);
});

test("where an exit node is already, it stays, and no other comes to it", () => {
  assert.deepEqual(chosen(candidate("pve1"), candidate("pve2", { there: "pve1" })), [
    ["pve2", "pve1"],
    ["pve1", "pve2"],
  ]);
});

test("two that the config puts on one node are refused, with both names", () => {
  const found = spread([candidate("pve1", { wanted: "pve1" }), candidate("token", { wanted: "pve1" })]);
  assert.equal(found.get("pve1"), "pve1");
  const refused = found.get("token");
  assert.ok(refused instanceof Failure);
  assert.match(refused.message, /"token" and "pve1" would have their exit nodes on one machine, pve1/);
});

test("hosts that are no cluster may have nodes of one name", () => {
  const own = (host: string) => candidate(host, { nodes: [{ name: "pve", online: true, fingerprint: host }] });
  assert.deepEqual(chosen(own("a"), own("b")), [
    ["a", "pve"],
    ["b", "pve"],
  ]);
});
