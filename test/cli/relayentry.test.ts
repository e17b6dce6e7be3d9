import assert from "node:assert/strict";
import { test } from "node:test";
import { enterRelay, type RelayList, type WantedRelay } from "../../src/cli/relayentry.js";
import { Failure } from "../../src/kit/failure.js";
import { keyOf } from "../../src/kit/key.js";
import { type RelayInfo, relayRequest } from "../../src/wire/adminapi.js";
import { parseWith } from "../../src/wire/schema.js";

/** The API of a coordinator of today, or of one from before relays answered STUN on two ports. */
function coordinator(version: "today's" | "older"): RelayList & { readonly relays: RelayInfo[]; puts: number } {
  const request = version === "older" ? relayRequest.omit({ otherStunPort: true }) : relayRequest;
  const model = {
    relays: [] as RelayInfo[],
    puts: 0,
    get: async () => structuredClone(model.relays),
    async put(name: string, relay: WantedRelay) {
      model.puts++;
      const { otherStunPort, tlsFingerprint, ...fields } = relayRequest.parse(parseWith(request, relay, "the request"));
      model.relays = model.relays.filter((one) => one.name !== name);
      model.relays.push({
        ...{ name, kind: "added", ...fields },
        ...(otherStunPort === undefined ? {} : { otherStunPort }),
        ...(tlsFingerprint === undefined ? {} : { tlsFingerprint }),
      });
    },
  };
  return model;
}

const wanted = {
  url: "https://relay.example.net",
  relayKey: keyOf(new Uint8Array(32).fill(7)),
  stunPort: 3_478,
  otherStunPort: 3_479,
  tlsFingerprint: Array.from({ length: 32 }, () => "AB").join(":"),
};
const { otherStunPort: _, ...oneStunPort } = wanted;

test("a relay is entered whole, and entered again nothing is sent", async () => {
  const list = coordinator("today's");
  assert.deepEqual(await enterRelay(list, "vps", wanted), { changed: true, coordinatorOld: false });
  assert.deepEqual(list.relays, [{ name: "vps", kind: "added", ...wanted }]);
  assert.deepEqual(await enterRelay(list, "vps", wanted), { changed: false, coordinatorOld: false });
  assert.equal(list.puts, 1);
});

test("a coordinator that knows no second STUN port gets the relay without it, once, and its age is told", async () => {
  const list = coordinator("older");
  assert.deepEqual(await enterRelay(list, "vps", wanted), { changed: true, coordinatorOld: true });
  assert.deepEqual(list.relays, [{ name: "vps", kind: "added", ...oneStunPort }]);
  assert.deepEqual(await enterRelay(list, "vps", wanted), { changed: false, coordinatorOld: true });
});

test("what an older coordinator has of a relay is made whole by a newer one", async () => {
  const list = coordinator("today's");
  await list.put("vps", oneStunPort);
  assert.deepEqual(await enterRelay(list, "vps", wanted), { changed: true, coordinatorOld: false });
  assert.equal(list.relays[0]?.otherStunPort, 3_479);
});

test("any other refusal is told as it came", async () => {
  const list = coordinator("older");
  const isRefusal = (error: unknown): boolean =>
    error instanceof Failure && error.code === "message-invalid" && /relayKey/.test(error.message);
  await assert.rejects(enterRelay(list, "vps", { ...oneStunPort, relayKey: "none" }), isRefusal);
  const full = { ...list, put: () => Promise.reject(new Failure("relays-full", "there are enough")) };
  await assert.rejects(
    enterRelay(full, "vps", wanted),
    (error) => error instanceof Failure && error.code === "relays-full",
  );
});
