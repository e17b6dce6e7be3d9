import assert from "node:assert/strict";
import { test } from "node:test";
import { parseCidr } from "../../src/kit/ip.js";
import { isSubnets, renderSubnets, type SubnetRouter } from "../../src/netconf/subnetrouter.js";

const router: SubnetRouter = {
  device: "exn0",
  subnets: [parseCidr("192.168.1.0/24"), parseCidr("10.7.0.0/16")],
  masquerade: true,
};
const markOf = (text: string): string => /comment "(.*)"/.exec(text)?.[1] ?? "";

test("what a device that offers networks passes on", () => {
  const text = renderSubnets(router);
  assert.equal(
    text.replace(markOf(text), "MARK"),
    `table inet exitnode_subnets
delete table inet exitnode_subnets
table inet exitnode_subnets {
  comment "MARK"
  set subnets {
    type ipv4_addr; flags interval; auto-merge
    elements = { 10.7.0.0/16, 192.168.1.0/24 }
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "exn0" oifname != "exn0" ip daddr @subnets ct mark set 0x450001 accept
    iifname "exn0" ct direction original drop
    oifname "exn0" ct direction original drop
  }
  chain clamp {
    type filter hook forward priority mangle; policy accept;
    iifname "exn0" tcp flags syn tcp option maxseg size set rt mtu
    oifname "exn0" tcp flags syn tcp option maxseg size set rt mtu
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname != "exn0" ct mark 0x450001 masquerade
  }
}
`,
  );
});

test("a table is known again by its mark, whatever the order of the networks, and another is not", () => {
  const text = renderSubnets(router);
  assert.ok(isSubnets(text, { ...router, subnets: [...router.subnets].reverse() }));
  assert.equal(isSubnets(text, { ...router, masquerade: false }), false);
  assert.equal(isSubnets(text, { ...router, subnets: router.subnets.slice(1) }), false);
  assert.doesNotMatch(renderSubnets({ ...router, masquerade: false }), /masquerade/);
});
