import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { localExec, mustRun } from "../../src/sys/exec.js";

/** A place of its own with flows to three of its own addresses, made by datagrams that nobody answers. */
const PLACE = "exn-po-flows";
const LIMIT = { timeout: 60_000 };
const inside = (...argv: string[]): Promise<string> => mustRun(localExec, ["ip", "netns", "exec", PLACE, ...argv]);
const module = fileURLToPath(new URL("../../src/sys/conntrack.js", import.meta.url));

const run = (program: string): Promise<string> => inside(process.execPath, "--input-type=module", "-e", program);
const flows = async (): Promise<string[]> =>
  [...(await inside("cat", "/proc/net/nf_conntrack").catch(() => "")).matchAll(/src=(\S+) dst=(\S+)/g)].map(
    ([, src, dst]) => `${src} ${dst}`,
  );

before(async () => {
  await localExec.run(["ip", "netns", "delete", PLACE]);
  await mustRun(localExec, ["ip", "netns", "add", PLACE]);
  await inside("ip", "link", "set", "lo", "up");
  // Longer than the test may take.
  await inside("sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=600");
  for (const address of ["100.64.0.1/32", "100.64.0.2/32", "fd00:64::1/128", "fd00:64::2/128"])
    await inside("ip", "address", "add", address, "dev", "lo");
  await mustRun(localExec, ["ip", "netns", "exec", PLACE, "nft", "-f", "-"], {
    input: "table inet t {\n chain c {\n type filter hook output priority 0\n ct state new counter\n }\n}\n",
  });
  await run(`import { createSocket } from "node:dgram";
    const send = (kind, from, to) => new Promise((done) => { const s = createSocket(kind);
      s.bind(0, from, () => s.send("x", 7000, to, () => s.close(done))); });
    await send("udp4", "100.64.0.1", "100.64.0.2"); await send("udp4", "127.0.0.1", "100.64.0.1");
    await send("udp4", "127.0.0.1", "100.64.0.2"); await send("udp6", "fd00:64::1", "fd00:64::2");
    await send("udp6", "fd00:64::2", "::1");`);
});
after(() => localExec.run(["ip", "netns", "delete", PLACE]));

const forget = async (...addresses: string[]): Promise<number> =>
  Number(
    await run(`import { forgetFlows } from ${JSON.stringify(module)};
    console.log(forgetFlows(${JSON.stringify(addresses)}))`),
  );

test("the flows from and to an address are forgotten, and no others", LIMIT, async () => {
  assert.equal(await forget("100.64.0.1", "fd00:64::1"), 3);
  assert.equal(await forget("100.64.0.1", "fd00:64::1"), 0);
  assert.equal(await forget("100.64.0.2", "fd00:64::2"), 2);
  assert.deepEqual(await flows(), []);
});

test("nothing is asked for no address, and an unknown one has no flows", LIMIT, async () => {
  assert.equal(await forget(), 0);
  assert.equal(await forget("192.0.2.1"), 0);
});
