import assert from "node:assert/strict";
import { test } from "node:test";
import { namespaceOf } from "../../src/lab/internet.js";
import { observeLab, refuseAnothers } from "../../src/lab/lab.js";
import { markComplete } from "../../src/lab/network.js";
import { NETNS_DIR, RUN_DIR } from "../../src/lab/places.js";
import { topology } from "../../src/lab/topology.js";
import type { Files } from "../../src/sys/files.js";

/** A machine as the lab asks for it: files by name, and the names in a folder. */
function machine(): Files & { readonly texts: Map<string, string>; readonly folders: Map<string, string[]> } {
  const texts = new Map([["/proc/sys/kernel/random/boot_id", "boot\n"]]);
  const folders = new Map<string, string[]>();
  return {
    texts,
    folders,
    read: async () => undefined,
    readText: async (path) => texts.get(path),
    write: async (path, text) => void texts.set(path, String(text)),
    remove: async (path) => void texts.delete(path),
    list: async (path) => folders.get(path) ?? [],
  };
}

async function machineWithLab(raisedFor?: string): Promise<ReturnType<typeof machine>> {
  const files = machine();
  files.folders.set(
    NETNS_DIR,
    topology.places.map(({ name }) => namespaceOf(name)),
  );
  files.folders.set("/sys/class/net", [topology.machine.name]);
  await markComplete(files, topology);
  if (raisedFor !== undefined) files.texts.set(`${RUN_DIR}/raised-for`, raisedFor);
  assert.equal(await observeLab(files, topology), "up");
  return files;
}

test("a lab that was raised for somebody else, or by hand, is refused, and one's own is not", async () => {
  await refuseAnothers(await machineWithLab("demo"), topology, "demo");
  await assert.rejects(refuseAnothers(await machineWithLab("test-7"), topology, "demo"), {
    code: "lab-anothers",
    message: /was raised for test-7, not for demo$/,
    advice: /^exitnode lab down/,
  });
  await assert.rejects(refuseAnothers(await machineWithLab(), topology, "demo"), { message: /by hand/ });
});

test("a damaged lab is somebody's still; an unfinished one, and none, are nobody's", async () => {
  const damaged = await machineWithLab("test-7");
  damaged.folders.get(NETNS_DIR)?.pop();
  assert.equal(await observeLab(damaged, topology), "damaged");
  await assert.rejects(refuseAnothers(damaged, topology, "demo"), { code: "lab-anothers" });
  const unfinished = await machineWithLab("test-7");
  unfinished.texts.delete(`${RUN_DIR}/network.json`);
  assert.equal(await observeLab(unfinished, topology), "partial");
  await refuseAnothers(unfinished, topology, "demo");
  await refuseAnothers(machine(), topology, "demo");
});
