import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { readTemplates, renderContainerFiles } from "../../src/netconf/containerfiles.js";
import { coordinatorMemory } from "../../src/netconf/coordinatormemory.js";

test("in a container of 512 MB the coordinator leaves as much to the agent, and in a smaller one no less to itself", () => {
  assert.deepEqual(coordinatorMemory(512, true), { highMiB: 224, heapMiB: 160, youngMiB: 1 });
  assert.deepEqual(coordinatorMemory(256, true), coordinatorMemory(512, true));
});

for (const [machineMiB, beside, expected] of [
  [2_048, true, { highMiB: 896, heapMiB: 640, youngMiB: 16 }],
  [512, false, { highMiB: 320, heapMiB: 228, youngMiB: 1 }],
  [1_024, false, { highMiB: 640, heapMiB: 457, youngMiB: 16 }],
  [2_048, false, { highMiB: 1_280, heapMiB: 914, youngMiB: 16 }],
  [65_536, false, { highMiB: 2_048, heapMiB: 1_462, youngMiB: 16 }],
] as const)
  test(`with ${machineMiB} MB ${beside ? "beside an agent" : "to itself"} the coordinator may take ${expected.highMiB}`, () => {
    assert.deepEqual(coordinatorMemory(machineMiB, beside), expected);
  });

test("the unit says so", async () => {
  const sources = await readTemplates(async (name) => readFileSync(`templates/${name}`, "utf8"));
  const unitOf = (memoryMiB: number, agentBeside: boolean): string =>
    renderContainerFiles(sources, { memoryMiB, agentBeside }).find(({ path }) => path.endsWith("coordinator.service"))
      ?.content ?? "";
  const lines = (unit: string) => [/--max\S+ --max\S+/.exec(unit)?.[0], /MemoryHigh=.*/.exec(unit)?.[0]];
  assert.deepEqual(lines(unitOf(2_048, false)), [
    "--max-old-space-size=914 --max-semi-space-size=16",
    "MemoryHigh=1280M",
  ]);
  assert.deepEqual(lines(unitOf(512, true)), ["--max-old-space-size=160 --max-semi-space-size=1", "MemoryHigh=224M"]);
});
