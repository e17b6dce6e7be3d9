import assert from "node:assert/strict";
import { test } from "node:test";
import { describeOffer, offerFrom, withOffer } from "../../src/cli/upoffer.js";
import { agentConfig } from "../../src/wire/agentconfig.js";
import { HOME } from "../agent/agentworld.js";

const config = agentConfig.parse({
  name: "nas",
  role: "device",
  coordinator: { urls: ["https://203.0.113.7"], publicKey: HOME.publicKey },
});

test("networks are offered, offered otherwise and taken back, and nothing else of the configuration changes", () => {
  const offered = withOffer(config, offerFrom({ advertise: "192.168.1.0/24, 10.7.0.0/16", snat: false }));
  assert.deepEqual(offered, { ...config, advertise: ["192.168.1.0/24", "10.7.0.0/16"], masquerade: false });
  const again = withOffer(offered, offerFrom({ advertise: "192.168.1.0/24", snat: true }));
  assert.deepEqual(again, { ...config, advertise: ["192.168.1.0/24"] });
  assert.deepEqual(withOffer(again, offerFrom({ snat: true })), again, "an up that says nothing of it keeps them");
  assert.deepEqual(withOffer(again, offerFrom({ advertise: "none" })), config);
});

for (const advertise of ["0.0.0.0/0", "fd00::/64", "192.168.1.0/33", "home"])
  test(`--advertise ${advertise} is refused with wrong usage`, () => {
    assert.throws(() => withOffer(config, offerFrom({ advertise })), { code: "usage" });
  });

test("an IPv6 network and the whole Internet are refused with the reason", () => {
  assert.throws(() => offerFrom({ advertise: "192.168.1.0/24, fd00:7::/64" }), {
    code: "usage",
    message: /^fd00:7::\/64 is IPv6, and only IPv4 networks can be offered: .* its own router/,
    advice: "exitnode up --advertise 192.168.1.0/24",
  });
  assert.throws(() => offerFrom({ advertise: "0.0.0.0/0" }), { message: /^0\.0\.0\.0\/0 is the whole Internet/ });
});

test("--no-snat without a network is wrong usage", () => {
  assert.throws(() => offerFrom({ snat: false }), { code: "usage" });
});

test("who offers a network is told how it is approved", () => {
  assert.deepEqual(describeOffer(offerFrom({ advertise: "192.168.1.0/24" }), "nas"), [
    "offers 192.168.1.0/24; where the network is administered:",
    "  exitnode route approve nas 192.168.1.0/24",
  ]);
});
