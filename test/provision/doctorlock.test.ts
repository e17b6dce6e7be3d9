import assert from "node:assert/strict";
import { test } from "node:test";
import { agentFindings, lineFindings } from "../../src/provision/doctor/agent.js";
import { type AgentStatus, agentStatus } from "../../src/wire/agentsocket.js";

const status = (more: Partial<AgentStatus>): AgentStatus =>
  agentStatus.parse({
    ...{ version: "0", name: "tablet", role: "device", addresses: [], dataPlane: "userspace", interface: "exn0" },
    ...{ listenPort: 51_820, coordinator: { connected: true }, peers: [], warnings: [] },
    ...more,
  });
const fingerprint = "3f9a-01bc-77de-4410-9ab2";

test("a device that nobody has signed is told its fingerprint and the next command", () => {
  const [finding] = agentFindings(status({ waiting: "lock", lock: { fingerprint, version: 1, kept: [] } }));
  assert.equal(finding?.severity, "stops");
  assert.match(JSON.stringify(finding), new RegExp(`${fingerprint}.*exitnode lock sign tablet`));
});

test("peers that the lock keeps out are named, and a lock that keeps nobody out is no finding", () => {
  const kept = [{ name: "ghost", why: "unsigned" as const }];
  const [finding] = agentFindings(status({ lock: { fingerprint, version: 1, kept } }));
  assert.match(JSON.stringify(finding), /ghost.*exitnode lock status/);
  assert.deepEqual(agentFindings(status({ lock: { fingerprint, version: 1, kept: [] } })), []);
});

test("a device that was shown another list than its join key names is sent to a trusted device, not for another key", () => {
  const coordinator = { connected: false, refusal: "lock-differs", reason: "the join key names the trusted devices …" };
  const [finding] = lineFindings(status({ coordinator }));
  assert.match(JSON.stringify(finding), /has not joined: the join key names.*exitnode lock status/);
  assert.doesNotMatch(JSON.stringify(finding), /key create/);
});
