import assert from "node:assert/strict";
import { test } from "node:test";
import { isProbeMux, probePortOf, REMOVE_PROBE_MUX, renderProbeMux } from "../../src/netconf/probemux.js";
import { localExec, mustRun } from "../../src/sys/exec.js";

const mux = { listenPort: 51_820, probePort: 51_821 };

test("probes and answers of STUN are told by their first bytes and moved to the probe port, where connection tracking does not see it", () => {
  assert.equal(
    renderProbeMux(mux).replace(/: [0-9a-f]{32}"/, ': MARK"'),
    `table inet exitnode_mux
delete table inet exitnode_mux
table inet exitnode_mux {
  comment "exitnode: MARK"
  chain inward {
    type filter hook prerouting priority mangle; policy accept;
    meta l4proto != 17 accept
    fib daddr type != local accept
    udp dport 51821 drop
    udp dport != 51820 accept
    udp length < 16 accept
    @th,64,32 0x45584e44 udp dport set 51821
    @th,64,16 { 0x0101, 0x0111 } @th,96,32 0x2112a442 udp dport set 51821
  }
  chain outward {
    type filter hook output priority raw; policy accept;
    oifname != "lo" udp sport 51821 udp sport set 51820
  }
}
`,
  );
});

test("the probe port is the next one, which the exit node's firewall lets in", () => {
  assert.deepEqual([51_820, 1, 65_535].map(probePortOf), [51_821, 2, 65_534]);
});

test("nft takes the table, lists it as one that is known again, and another port's or a cut one as another", async () => {
  const inside = (...argv: string[]) => ["ip", "netns", "exec", "exn-kw-mux", ...argv];
  await localExec.run(["ip", "netns", "delete", "exn-kw-mux"]);
  await mustRun(localExec, ["ip", "netns", "add", "exn-kw-mux"]);
  try {
    for (let twice = 0; twice < 2; twice++)
      await mustRun(localExec, inside("nft", "-f", "-"), { input: renderProbeMux(mux) });
    const listing = await mustRun(localExec, inside("nft", "list", "table", "inet", "exitnode_mux"));
    assert.equal(isProbeMux(listing, mux), true, listing);
    assert.equal(isProbeMux(listing, { ...mux, listenPort: 51_900 }), false);
    assert.equal(isProbeMux(listing.replace(/\n.*drop/, ""), mux), false);
    for (let twice = 0; twice < 2; twice++)
      await mustRun(localExec, inside("nft", "-f", "-"), { input: REMOVE_PROBE_MUX });
    assert.equal(await mustRun(localExec, inside("nft", "list", "tables")), "");
  } finally {
    await localExec.run(["ip", "netns", "delete", "exn-kw-mux"]);
  }
});
