import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { localExec, mustRun } from "../../src/sys/exec.js";
import { must, placeOf, removePlaces } from "../engine/places.js";

const PLACE = "exn-x2-leads";
const LIMIT = { timeout: 60_000, skip: process.getuid?.() === 0 ? false : "needs root, for a network namespace" };
const [OPEN, HOME, SILENT, NOBODY] = ["203.0.113.9", "192.168.1.5", "203.0.113.10", "203.0.113.11"];

before(() => removePlaces(PLACE));
after(() => removePlaces(PLACE));

test(
  "only a public address that shows the coordinator's certificate leads to it, and silence is waited for once",
  LIMIT,
  async () => {
    await mustRun(localExec, ["ip", "netns", "add", PLACE]);
    await must(placeOf(PLACE), "ip link set lo up");
    for (const address of [OPEN, HOME, SILENT]) await must(placeOf(PLACE), `ip address add ${address}/32 dev lo`);
    const script = fileURLToPath(new URL("leadstoplace.js", import.meta.url));
    const said = await must(placeOf(PLACE), `${process.execPath} ${script} ${OPEN} ${HOME} ${SILENT} ${NOBODY}`);
    const { answers, asked } = JSON.parse(said) as { answers: boolean[]; asked: number };
    assert.deepEqual(answers, [true, false, false, false, false, false, false]);
    assert.equal(asked, 1, "connections to the silent one");
  },
);
