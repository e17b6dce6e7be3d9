import assert from "node:assert/strict";
import { test } from "node:test";
import { describeLab } from "../../src/cli/labstatus.js";
import { SCREEN_COLUMNS } from "../../src/cli/table.js";
import { logPath } from "../../src/lab/daemons.js";
import { servicesOf } from "../../src/lab/services.js";
import { USUAL } from "../../src/lab/situation.js";
import { topology } from "../../src/lab/topology.js";

test("the lab's screen names every place with its addresses and fits a terminal", () => {
  const places = topology.places.map(({ name, title, devices }) => ({
    ...{ name, title, namespace: name },
    addresses: devices.flatMap(({ addresses }) => addresses),
  }));
  const text = describeLab({
    ...{ state: "up", raisedFor: null, situation: USUAL, vps: null, forwards: [], places },
    daemons: servicesOf(topology, USUAL, []).map(({ name, place }) => ({
      ...{ name, place, pid: null, log: logPath(name) },
    })),
    containers: [],
  });
  for (const line of text.split("\n")) assert.ok(line.length <= SCREEN_COLUMNS, `${line.length}: ${line}`);
  for (const { name, addresses } of places) {
    assert.match(text, new RegExp(`^${name} `, "m"));
    for (const address of addresses) assert.ok(text.includes(address), address);
  }
});
