import assert from "node:assert/strict";
import { test } from "node:test";
import { describeEntries } from "../../src/cli/auditactions.js";
import { SCREEN_COLUMNS } from "../../src/cli/table.js";
import type { AuditEntry } from "../../src/wire/audit.js";

const entry: AuditEntry = {
  ...{ seq: 1, atMs: Date.UTC(2026, 2, 1), actor: "user:u2k7xqm4pa", remote: "2001:db8:77:1:be24:11ff:fe00:22" },
  ...{ action: "webhook.create", target: "w2k7xqm4pa", hash: "0".repeat(64) },
  details: JSON.stringify({ name: "living-room", role: "device", addresses: ["100.64.0.2", "fd7e:1::2"], tags: [] }),
};

test("an entry of the audit log has its details below it, and no line is wider than a terminal", () => {
  const text = describeEntries([entry, { ...entry, remote: "", details: "{}" }]);
  for (const line of text.split("\n")) assert.ok(line.length <= SCREEN_COLUMNS, `${line.length}: ${line}`);
  assert.equal(
    text,
    `WHEN                 WHO              ACTION          WHAT
2026-03-01 00:00:00  user:u2k7xqm4pa  webhook.create  w2k7xqm4pa
    from 2001:db8:77:1:be24:11ff:fe00:22 name=living-room role=device
    addresses=["100.64.0.2","fd7e:1::2"]
2026-03-01 00:00:00  user:u2k7xqm4pa  webhook.create  w2k7xqm4pa`,
  );
});
