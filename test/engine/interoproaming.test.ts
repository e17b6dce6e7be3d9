import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { until } from "./patience.js";
import { must, pings } from "./places.js";
import { transfer } from "./transfer.js";
import { OURS, PORT, THEIRS, Tunnel, WIRE4 } from "./tunnel.js";
import { identityOf, NEWER, PROGRAMS } from "./wireguardgo.js";

/** Either end moves in the middle of a transfer, and the transfer ends as if nothing had been (paper §2.1). */
const MEGABYTES = 6;
const OPTIONS = { megabytes: MEGABYTES, rate: 100 };
const MIDDLE_BYTES = (MEGABYTES / 2) * 2 ** 20;

for (const [number, program] of PROGRAMS.entries())
  describe(`with wireguard-go ${program.version}`, () => {
    let tunnel: Tunnel;
    before(async () => {
      tunnel = await Tunnel.open(`exn-io-r${number}`, program);
    });
    after(() => tunnel?.close());

    let serial = 0;
    beforeEach(async () => {
      tunnel.us = identityOf(`roaming ${serial++}`);
      await tunnel.set({ privateKey: tunnel.us.privateKey, peers: [], listenPort: PORT });
      await tunnel.connect({ theirEndpoint: `${WIRE4.theirs}:${PORT}` });
    });
    afterEach(async () => {
      for (const [place, address] of [
        [tunnel.here, WIRE4.ours],
        [tunnel.there, WIRE4.theirs],
      ] as const) {
        await must(place, "ip -4 address flush dev wire");
        await must(place, `ip address add ${address}/24 dev wire`);
      }
    });

    /**
     * Both directions at once: whoever moves both sends and acknowledges. On a busy machine what it sends may be over
     * before, and an end that says nothing is where it was: so the mover says one thing more.
     */
    async function movedInTheMiddle(mover: "us" | "them", move: () => Promise<unknown>): Promise<void> {
      const middle = until("half of it came", async () => (await tunnel.peer()).receivedBytes > MIDDLE_BYTES);
      let movedAt = 0;
      const [up, down] = await Promise.all([
        transfer(tunnel.here, tunnel.there, THEIRS.ip4, OPTIONS),
        transfer(tunnel.there, tunnel.here, OURS.ip4, OPTIONS),
        middle.then(async () => {
          movedAt = performance.now();
          await move();
          await speaks(mover);
        }),
      ]);
      // What lay in the sender's buffer when it was done is not counted.
      for (const { bytes } of [up, down]) assert.ok(bytes >= 0.7 * MEGABYTES * 2 ** 20, `${bytes} bytes arrived`);
      const sinceMs = performance.now() - movedAt;
      const { lastHandshakeAgeMs = 0 } = await tunnel.peer();
      assert.ok(lastHandshakeAgeMs > sinceMs, `a new handshake ${lastHandshakeAgeMs} ms ago, moved ${sinceMs} ms ago`);
    }

    const speaks = (who: "us" | "them"): Promise<boolean> =>
      who === "us" ? pings(tunnel.here, THEIRS.ip4, "-W", "1") : pings(tunnel.there, OURS.ip4, "-W", "1");
    const theyFollow = (endpoint: string): Promise<number> =>
      until("they follow us", async () => {
        await speaks("us");
        return (await tunnel.go.endpoint()) === endpoint;
      });
    const weFollow = (address: string, port?: number): Promise<number> =>
      until("we follow them", async () => {
        await speaks("them");
        const { endpoint } = await tunnel.peer();
        return endpoint?.address === address && (port === undefined || endpoint.port === port);
      });

    test("a transfer outlives another port of ours", async () => {
      await movedInTheMiddle("us", () => tunnel.set({ listenPort: 51_999 }));
      await theyFollow(`${WIRE4.ours}:51999`);
    });

    test("a transfer outlives another port of theirs", async () => {
      await movedInTheMiddle("them", () => tunnel.go.wg("set DEVICE listen-port 51998"));
      await weFollow(WIRE4.theirs, 51_998);
    });

    test("a transfer outlives another address of ours", async () => {
      await movedInTheMiddle("us", async () => {
        await must(tunnel.here, "ip address add 10.99.7.101/24 dev wire");
        await must(tunnel.here, `ip address delete ${WIRE4.ours}/24 dev wire`);
        await must(tunnel.here, "ip address replace 10.99.7.101/24 dev wire");
      });
      await theyFollow(`10.99.7.101:${PORT}`);
    });

    test("a transfer outlives another address of theirs", async () => {
      await movedInTheMiddle("them", async () => {
        await must(tunnel.there, "ip address add 10.99.7.102/24 dev wire");
        await must(tunnel.there, `ip address delete ${WIRE4.theirs}/24 dev wire`);
        await must(tunnel.there, "ip address replace 10.99.7.102/24 dev wire");
        // 0.0.20220316 clings to the source address that is gone until it opens its sockets anew.
        if (program !== NEWER) await tunnel.go.wg("set DEVICE listen-port 51997");
      });
      await weFollow("10.99.7.102");
    });
  });
