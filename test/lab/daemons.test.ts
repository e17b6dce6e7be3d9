import assert from "node:assert/strict";
import { test } from "node:test";
import { hasListener, parseStat } from "../../src/lab/daemons.js";

test("a process is known by its number and start time, whatever it calls itself", () => {
  const tail = `1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 ${"98765"} 20`;
  assert.deepEqual(parseStat(`4711 (a) S (b) c) S ${tail}\n`), { pid: 4711, startTicks: "98765" });
  assert.equal(parseStat(`4711 (a) Z ${tail}`), undefined, "a zombie has ended");
  assert.equal(parseStat(""), undefined);
});

test("a listener is a TCP socket in state LISTEN, or a bound UDP socket", () => {
  const tcp = "  sl  local_address rem_address   st\n   0: 00000000:0050 00000000:0000 0A 00000000\n";
  assert.equal(hasListener(tcp, "tcp", 80), true);
  assert.equal(hasListener(tcp.replace(" 0A ", " 01 "), "tcp", 80), false);
  assert.equal(hasListener(tcp, "tcp", 8006), false);
  assert.equal(hasListener("  12: 350200C0:0035 00000000:0000 07 0", "udp", 53), true);
});
