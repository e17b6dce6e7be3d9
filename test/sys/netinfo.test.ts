import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { localExec, mustRun } from "../../src/sys/exec.js";

const needsRoot = process.getuid?.() === 0 ? undefined : "needs root for a mount namespace";

test("resolvers are those of the moment, not those of the process's beginning", { skip: needsRoot }, async () => {
  const folder = await mkdtemp(join(tmpdir(), "exn-netinfo-"));
  const [before, after] = [join(folder, "before"), join(folder, "after")];
  await writeFile(before, "nameserver 192.0.2.1\n");
  await writeFile(after, "nameserver 192.0.2.2\nnameserver 2001:db8::2\n");
  const script = `
    import { readFileSync, writeFileSync } from "node:fs";
    import { readNetInfo } from ${JSON.stringify(new URL("../../src/sys/netinfo.js", import.meta.url).href)};
    const first = readNetInfo().resolvers;
    writeFileSync(${JSON.stringify(before)}, readFileSync(${JSON.stringify(after)}));
    console.log(JSON.stringify([first, readNetInfo().resolvers]));`;
  const node = [process.execPath, "--input-type=module", "-e", script];
  const inside = ["sh", "-c", 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"', "sh", before, ...node];
  const printed = await mustRun(localExec, ["unshare", "--mount", ...inside]);
  assert.deepEqual(JSON.parse(printed), [["192.0.2.1"], ["192.0.2.2", "2001:db8::2"]]);
  await rm(folder, { recursive: true });
});
