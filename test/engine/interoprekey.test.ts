import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { REKEY_AFTER_MS } from "../../src/wireguard/constants.js";
import { type Place, pings } from "./places.js";
import { OURS, PORT, THEIRS, Tunnel, WIRE4, WIRE6 } from "./tunnel.js";
import { PROGRAMS } from "./wireguardgo.js";

/** Traffic that outlives two renewals of its session, at the protocol's own pace: hence only when it is asked for. */
const long = process.env.EXITNODE_LONG_TESTS ? false : "set EXITNODE_LONG_TESTS=1";
const INTERVAL_S = 0.1;
const RENEWALS = 2;
const SECONDS = (RENEWALS * REKEY_AFTER_MS) / 1_000 + 20;

describe("over two renewals no packet is lost", { concurrency: true, skip: long }, () => {
  for (const [number, program] of PROGRAMS.entries())
    for (const initiator of ["us", "them"] as const) {
      // One of each over IPv6.
      const wire = initiator === "us" ? WIRE4 : WIRE6;
      const at = (address: string): string => (wire === WIRE4 ? `${address}:${PORT}` : `[${address}]:${PORT}`);
      const title = `that ${initiator === "us" ? "we" : "they"} begin, with wireguard-go ${program.version}`;

      test(title, async (t) => {
        const tunnel = await Tunnel.open(`exn-io-x${number}${initiator[0]}`, program);
        t.after(() => tunnel.close());
        await tunnel.connect(initiator === "us" ? { theirEndpoint: at(wire.theirs) } : { ourEndpoint: at(wire.ours) });
        const first = initiator === "us" ? pings(tunnel.here, THEIRS.ip4) : pings(tunnel.there, OURS.ip4);
        assert.equal(await first, true);

        const [up, down] = await Promise.all([steadily(tunnel.here, THEIRS.ip4), steadily(tunnel.there, OURS.ip6)]);
        assert.deepEqual([up.lost, down.lost], [0, 0]);
        const [mine, theirs] = [tunnel.go.count("Received handshake init"), tunnel.go.count("Sending handshake init")];
        assert.equal(initiator === "us" ? mine : theirs, 1 + RENEWALS, `${mine} of ours, ${theirs} of theirs`);
        assert.equal(initiator === "us" ? theirs : mine, 0, `${mine} of ours, ${theirs} of theirs`);
        t.diagnostic(
          `${up.sent + down.sent} packets answered, the slowest after ${Math.max(up.slowestMs, down.slowestMs)} ms`,
        );
      });
    }
});

type Steady = { readonly sent: number; readonly lost: number; readonly slowestMs: number };

async function steadily(from: Place, to: string): Promise<Steady> {
  const count = Math.round(SECONDS / INTERVAL_S);
  const argv = ["ping", "-n", "-q", "-c", String(count), "-i", String(INTERVAL_S), "-W", "3", to];
  const { stdout } = await from.exec.run(argv, { timeoutMs: (SECONDS + 60) * 1_000 });
  const [, sent = "0", received = "0"] = /(\d+) packets transmitted, (\d+) received/.exec(stdout) ?? [];
  const [, slowest = "0"] = /= [\d.]+\/[\d.]+\/([\d.]+)\//.exec(stdout) ?? [];
  return { sent: Number(sent), lost: Number(sent) - Number(received), slowestMs: Number(slowest) };
}
