import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, fromUtf8, toHex, utf8 } from "../../src/kit/bytes.js";
import { type Endpoint, formatEndpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { parseIp } from "../../src/kit/ip.js";
import { isReset } from "../../src/nat/portmap/epoch.js";
import { askDeletion, askMapping, controlOf, locationOf, readSoap, searches } from "../../src/nat/portmap/igd.js";
import { natPmpService, pcpService } from "../../src/nat/portmap/lease.js";
import { decodeNatPmp, encodeAddressRequest, encodeMapRequest } from "../../src/nat/portmap/natpmp.js";
import { decodePcp, encodeAnnounce, encodePcpMap } from "../../src/nat/portmap/pcp.js";
import { LOOK_AGAIN_MS, type PortMapEffect, PortMapper, VERIFY_MS } from "../../src/nat/portmap/portmapper.js";
import { type HttpRequest, RENEW_MAX_MS } from "../../src/nat/portmap/service.js";
import { PORTS_TRIED_MAX, UpnpService } from "../../src/nat/portmap/upnp.js";
import { Internet } from "./internet.js";

const bytes = (hex: string): Uint8Array => fromHex(hex.replaceAll(/\s/g, "")) ?? assert.fail(`not hex: ${hex}`);
const hex = (data: Uint8Array): string => toHex(data);
const GATEWAY = parseIp("192.168.1.1");
const CLIENT = parseIp("192.168.1.20");
const PORT = 51_820;
const FROM = parseEndpoint("192.168.1.1:5351");
const NONCE = bytes("000102030405060708090a0b");
const random = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i);

// ── codecs ──

test("NAT-PMP: requests are the bytes of RFC 6886 §3.2 and §3.3", () => {
  assert.equal(hex(encodeAddressRequest()), "0000");
  assert.equal(hex(encodeMapRequest(PORT, 40_000, 7_200)), "00010000ca6c9c4000001c20");
});

for (const [text, answer] of [
  ["0080 0000 00000e10 cb007107", { kind: "address", epoch: 3_600, address: parseIp("203.0.113.7") }],
  [
    "0081 0000 00000e10 ca6c 9c40 00001c20",
    { kind: "mapped", epoch: 3_600, internalPort: PORT, externalPort: 40_000, lifetimeSeconds: 7_200 },
  ],
  [
    "0081 0002 00000001 ca6c 0000 00000000",
    { kind: "refused", epoch: 1, words: "the router refuses mappings: they are turned off there" },
  ],
  ["0080 0000 00000e10 cb0071", undefined],
  ["0082 0000 00000e10 ca6c 9c40 00001c20", undefined],
  ["0281 0000 00000e10 ca6c 9c40 00001c20", undefined],
] as const)
  test(`NAT-PMP: ${text} is ${answer?.kind ?? "nothing"}`, () => assert.deepEqual(decodeNatPmp(bytes(text)), answer));

const MAPPED_CLIENT = "00000000000000000000ffffc0a80114";
const MAPPED_OUTSIDE = "00000000000000000000ffffcb007107";

test("PCP: requests are the bytes of RFC 6887 §7.1, §11.1 and §14.1", () => {
  assert.equal(hex(encodeAnnounce(CLIENT)), `0200000000000000${MAPPED_CLIENT}`);
  const map = { nonce: NONCE, client: CLIENT, internalPort: PORT, externalPort: 40_000, lifetimeSeconds: 7_200 };
  const body = `${hex(NONCE)}11000000ca6c9c4000000000000000000000ffff00000000`;
  assert.equal(hex(encodePcpMap(map)), `0201000000001c20${MAPPED_CLIENT}${body}`);
});

const PCP_MAPPED = `0281 0000 00001c20 00000e10 000000000000000000000000
  ${hex(NONCE)} 11000000 ca6c 9c40 ${MAPPED_OUTSIDE}`;

test("PCP: an answer to MAP is read, also with an option behind it, and not cut short or for TCP", () => {
  const answer = {
    kind: "mapped",
    epoch: 3_600,
    nonce: NONCE,
    internalPort: PORT,
    externalPort: 40_000,
    address: parseIp("203.0.113.7"),
    lifetimeSeconds: 7_200,
  };
  assert.deepEqual(decodePcp(bytes(PCP_MAPPED)), answer);
  assert.deepEqual(decodePcp(bytes(`${PCP_MAPPED} 02000000`)), answer);
  assert.equal(decodePcp(bytes(PCP_MAPPED).subarray(0, -4)), undefined);
  assert.equal(decodePcp(bytes(PCP_MAPPED.replace("11000000", "06000000"))), undefined);
  assert.equal(decodePcp(bytes(PCP_MAPPED.replace("0281", "0201"))), undefined);
});

test("PCP: a router that speaks NAT-PMP alone answers nothing that is PCP", () => {
  assert.equal(decodePcp(bytes("0000 0001 00000e10")), undefined);
});

for (const [name, previous, current, reset] of [
  ["counts as we do", { seconds: 100, at: 0 }, { seconds: 160, at: 60_000 }, false],
  ["is a little slow", { seconds: 100, at: 0 }, { seconds: 3_500, at: 3_600_000 }, false],
  ["went back to nothing", { seconds: 100, at: 0 }, { seconds: 3, at: 60_000 }, true],
  ["restarted long ago", { seconds: 100, at: 0 }, { seconds: 1_900, at: 3_600_000 }, true],
  ["is first heard", undefined, { seconds: 3, at: 0 }, false],
] as const)
  test(`a router's clock that ${name} ${reset ? "means lost mappings" : "is no reason to ask again"}`, () =>
    assert.equal(isReset(previous, current), reset));

test("UPnP: the search is this text, for version 2 and 1 of the device", () => {
  const [text] = searches().map(fromUtf8);
  assert.equal(
    text,
    'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\n' +
      "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:2\r\n\r\n",
  );
  assert.equal(searches().length, 2);
});

const found = (location: string): Uint8Array =>
  utf8(`HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nLocation: ${location}\r\n\r\n`);

for (const [location, accepted] of [
  ["http://192.168.1.1:5000/rootDesc.xml", true],
  ["http://192.168.1.99:5000/rootDesc.xml", false],
  ["http://router.example/rootDesc.xml", false],
  ["https://192.168.1.1/rootDesc.xml", false],
  ["http://user@192.168.1.1/rootDesc.xml", false],
  ["file:///etc/passwd", false],
  ["", false],
] as const)
  test(`UPnP: a description at "${location}" is ${accepted ? "fetched" : "not fetched"}`, () =>
    assert.equal(locationOf(found(location), GATEWAY), accepted ? location : undefined));

const service = (type: string, url: string): string =>
  `<service>\n<serviceType>${type}</serviceType><serviceId>x</serviceId><controlURL> ${url}\n</controlURL></service>`;
const description = (...services: readonly string[]): string =>
  `<?xml version="1.0"?><root><device><serviceList>${services.join("")}</serviceList></device></root>`;
const LOCATION = "http://192.168.1.1:5000/desc/root.xml";
const IP1 = "urn:schemas-upnp-org:service:WANIPConnection:1";
const IP2 = "urn:schemas-upnp-org:service:WANIPConnection:2";
const PPP = "urn:schemas-upnp-org:service:WANPPPConnection:1";

test("UPnP: version 2 of the connection is taken before version 1, and that before PPP", () => {
  const all = [service(PPP, "/ppp"), service(IP1, "/one"), service(IP2, "/two?a=1&amp;b=2")];
  const url = (...services: readonly string[]) => controlOf(description(...services), LOCATION, GATEWAY)?.url;
  assert.equal(url(...all), "http://192.168.1.1:5000/two?a=1&b=2");
  assert.equal(url(...all.slice(0, 2)), "http://192.168.1.1:5000/one");
  assert.equal(url(service(PPP, "ctl")), "http://192.168.1.1:5000/desc/ctl");
});

test("UPnP: a control URL on another machine, a service without one, and 65 KiB of anything give nothing", () => {
  const control = (text: string) => controlOf(text, LOCATION, GATEWAY);
  assert.equal(control(description(service(IP1, "http://192.168.1.99/ctl"))), undefined);
  assert.equal(control(`<service><serviceType>${IP1}</serviceType></service>`), undefined);
  assert.equal(control(description(service(IP1, "/ctl")).padEnd(65 * 1024 + 1)), undefined);
  const before = process.cpuUsage();
  control("<service>".repeat(7_000));
  control(`<service>${"<controlURL ".repeat(5_000)}</service>`);
  assert.ok(process.cpuUsage(before).user < 1e6, "microseconds of this process's own time");
});

test("UPnP: the request for a mapping is this text", () => {
  const control = { url: "http://192.168.1.1:5000/ctl", serviceType: IP1 };
  const mapping = { externalPort: 40_000, internalPort: PORT, client: CLIENT, leaseSeconds: 7_200 };
  const { method, headers, body } = askMapping(control, mapping);
  assert.equal(method, "POST");
  assert.deepEqual(headers, { "content-type": 'text/xml; charset="utf-8"', soapaction: `"${IP1}#AddPortMapping"` });
  assert.equal(
    body,
    '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" ' +
      's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">\r\n' +
      `<s:Body><u:AddPortMapping xmlns:u="${IP1}"><NewRemoteHost></NewRemoteHost>` +
      "<NewExternalPort>40000</NewExternalPort><NewProtocol>UDP</NewProtocol><NewInternalPort>51820</NewInternalPort>" +
      "<NewInternalClient>192.168.1.20</NewInternalClient><NewEnabled>1</NewEnabled>" +
      "<NewPortMappingDescription>exitnode</NewPortMappingDescription><NewLeaseDuration>7200</NewLeaseDuration>" +
      "</u:AddPortMapping></s:Body>\r\n</s:Envelope>\r\n",
  );
  assert.match(askDeletion(control, 40_000).body, /<u:DeletePortMapping.*<NewExternalPort>40000</);
});

const soapError = (code: number): string =>
  `<s:Envelope><s:Body><s:Fault><detail><UPnPError><errorCode>${code}</errorCode></UPnPError></detail></s:Fault></s:Body></s:Envelope>`;

test("UPnP: answers are an address, a code, or unreadable", () => {
  const body = "<u:X><NewExternalIPAddress>203.0.113.7</NewExternalIPAddress></u:X>";
  assert.deepEqual(readSoap({ status: 200, body }), { kind: "done", address: "203.0.113.7" });
  assert.deepEqual(readSoap({ status: 500, body: soapError(718) }), { kind: "refused", code: 718 });
  assert.deepEqual(readSoap({ status: 500, body: "<oops" }), { kind: "refused", code: undefined });
});

// ── a router ──

/** A home router as a model: what it offers, what it grants, and when it was started. */
class HomeRouter {
  readonly offers: { pcp: boolean; natpmp: boolean; upnp: boolean };
  address = "203.0.113.7";
  startedAt = 0;
  readonly taken = new Set<number>();
  onlyPermanent = false;
  /** Whether what it grants does work. */
  isHonest = true;
  readonly mappings = new Map<number, { readonly by: string; readonly lease: number }>();

  constructor(offers: Partial<HomeRouter["offers"]> = {}) {
    this.offers = { pcp: false, natpmp: false, upnp: false, ...offers };
  }

  datagram(request: Uint8Array, now: number): Uint8Array[] {
    const view = new DataView(request.buffer, request.byteOffset, request.length);
    const epoch = Math.floor((now - this.startedAt) / 1_000)
      .toString(16)
      .padStart(8, "0");
    if (request[0] === 0 && this.offers.natpmp) {
      const outside = hex(Uint8Array.from(this.address.split("."), Number));
      if (request[1] === 0) return [bytes(`00800000${epoch}${outside}`)];
      const port = this.#grant(view.getUint16(6), "natpmp", view.getUint32(8));
      const ports = hex(request.subarray(4, 6)) + port.toString(16).padStart(4, "0");
      return [bytes(`00810000${epoch}${ports}${hex(request.subarray(8, 12))}`)];
    }
    if (request[0] === 2 && this.offers.pcp) {
      if (request[1] === 0) return [bytes(`0280000000000000${epoch}000000000000000000000000`)];
      const port = this.#grant(view.getUint16(42), "pcp", view.getUint32(4));
      const head = `02810000${hex(request.subarray(4, 8))}${epoch}000000000000000000000000`;
      const outside = `00000000000000000000ffff${hex(Uint8Array.from(this.address.split("."), Number))}`;
      return [bytes(`${head}${hex(request.subarray(24, 42))}${port.toString(16).padStart(4, "0")}${outside}`)];
    }
    return [];
  }

  search(): Uint8Array[] {
    return this.offers.upnp ? [found(LOCATION)] : [];
  }

  http({ url, body }: HttpRequest): { status: number; body: string } {
    if (url === LOCATION) return { status: 200, body: description(service(IP1, "/ctl")) };
    if (body.includes("GetExternalIPAddress"))
      return { status: 200, body: `<NewExternalIPAddress>${this.address}</NewExternalIPAddress>` };
    const port = Number(/<NewExternalPort>(\d+)</.exec(body)?.[1]);
    if (body.includes("DeletePortMapping")) {
      this.mappings.delete(port);
      return { status: 200, body: "" };
    }
    const lease = Number(/<NewLeaseDuration>(\d+)</.exec(body)?.[1]);
    if (this.onlyPermanent && lease > 0) return { status: 500, body: soapError(725) };
    if (this.taken.has(port)) return { status: 500, body: soapError(718) };
    this.mappings.set(port, { by: "upnp", lease });
    return { status: 200, body: "" };
  }

  reboot(now: number): void {
    this.startedAt = now;
    this.mappings.clear();
  }

  #grant(wanted: number, by: string, lease: number): number {
    if (lease === 0) {
      for (const [port, mapping] of this.mappings) if (mapping.by === by) this.mappings.delete(port);
      return wanted;
    }
    let port = wanted;
    while (this.taken.has(port)) port += 1;
    this.mappings.set(port, { by, lease });
    return port;
  }
}

/** The mapper on a LAN with that router, in the simulated Internet's time. */
class Home {
  readonly internet = new Internet(1);
  readonly mapper: PortMapper;
  readonly router: HomeRouter;
  readonly told: (string | undefined)[] = [];
  verifications = 0;
  #dueAt = Infinity;

  constructor(router: HomeRouter) {
    this.router = router;
    const services = [
      new UpnpService(GATEWAY, CLIENT, PORT, this.internet.random),
      natPmpService(GATEWAY, PORT),
      pcpService(GATEWAY, CLIENT, PORT, random),
    ];
    this.mapper = new PortMapper(services);
    this.do(this.mapper.start(0));
  }

  get status(): string {
    const { status } = this.mapper;
    return status.kind === "mapped" ? `${status.service} ${formatEndpoint(status.endpoint)}` : status.kind;
  }

  run(duration: number): this {
    this.internet.runTo(this.internet.now + duration);
    return this;
  }

  do(effects: readonly PortMapEffect[]): void {
    for (const effect of effects) this.#doOne(effect);
    const { deadline } = this.mapper;
    if (deadline === undefined || deadline === this.#dueAt) return;
    this.#dueAt = deadline;
    this.internet.after(Math.max(0, deadline - this.internet.now), () => {
      if (this.#dueAt !== deadline) return;
      this.#dueAt = Infinity;
      this.do(this.mapper.tick(this.internet.now));
    });
  }

  #doOne(effect: PortMapEffect): void {
    const { internet, router, mapper } = this;
    if (effect.kind === "mapped") this.told.push(effect.endpoint && formatEndpoint(effect.endpoint));
    else if (effect.kind === "verify") {
      this.verifications += 1;
      const { endpoint } = effect;
      internet.after(100, () => {
        const reached = router.isHonest && router.mappings.has(endpoint.port);
        if (reached) this.do(mapper.verified(endpoint, true, internet.now));
      });
    } else if (effect.kind === "http")
      internet.after(5, () => {
        const answer = router.http(effect.request);
        this.do(mapper.answered(effect.service, effect.id, answer, internet.now));
      });
    else
      internet.after(2, () => {
        const isSearch = effect.to.port === 1_900;
        const from: Endpoint = isSearch ? parseEndpoint("192.168.1.1:1900") : FROM;
        for (const answer of isSearch ? router.search() : router.datagram(effect.datagram, internet.now))
          this.do(mapper.receive(effect.service, answer, from, internet.now));
      });
  }
}

for (const [offers, status] of [
  [{ pcp: true, natpmp: true, upnp: true }, "pcp 203.0.113.7:51820"],
  [{ natpmp: true, upnp: true }, "natpmp 203.0.113.7:51820"],
  [{ upnp: true }, "upnp 203.0.113.7:51820"],
  [{}, "none"],
] as const)
  test(`a router that offers ${Object.keys(offers).join(", ") || "nothing"}: ${status}`, () => {
    const home = new Home(new HomeRouter(offers)).run(5_000);
    assert.equal(home.status, status);
    assert.ok(home.router.mappings.size <= 1, "one mapping is enough");
  });

test("a mapping is told to others only after the dial-back, and PCP's within half a second", () => {
  const home = new Home(new HomeRouter({ pcp: true })).run(50);
  assert.equal(home.mapper.status.kind, "verifying");
  assert.deepEqual(home.told, []);
  assert.deepEqual(home.run(450).told, ["203.0.113.7:51820"]);
});

test("a mapping through which nothing comes is given back and the next service asked, then none is left", () => {
  const router = new HomeRouter({ pcp: true, natpmp: true, upnp: true });
  router.isHonest = false;
  const home = new Home(router).run(4 * VERIFY_MS);
  const { status } = home.mapper;
  assert.ok(status.kind === "none");
  assert.equal(status.why.length, 3);
  assert.match(status.why[0] ?? "", /^pcp promised 203\.0\.113\.7:51820, and nothing came in there$/);
  assert.deepEqual([home.told, router.mappings.size], [[], 0]);
});

test("a router behind another router is recognised by its address, and no dial-back is tried", () => {
  const router = new HomeRouter({ natpmp: true });
  router.address = "100.64.7.7";
  const home = new Home(router).run(5_000);
  assert.ok(home.mapper.status.kind === "none");
  assert.match(home.mapper.status.why.join(), /behind another one: its own address is 100\.64\.7\.7/);
  assert.equal(home.verifications, 0);
});

test("a lease is renewed at half its life, quietly, for a day", () => {
  for (const offers of [{ pcp: true }, { natpmp: true }, { upnp: true }]) {
    const home = new Home(new HomeRouter(offers)).run(5_000);
    const { status } = home;
    for (let hour = 0; hour < 24; hour++) {
      home.router.mappings.clear();
      home.run(RENEW_MAX_MS + 1_000);
      assert.equal(home.router.mappings.size, 1, `${status} at hour ${hour}`);
    }
    assert.equal(home.status, status);
    assert.equal(home.told.length, 1);
  }
});

test("a router that restarts is asked anew, and a new address is verified before it is told", () => {
  const home = new Home(new HomeRouter({ natpmp: true })).run(5_000);
  home.router.reboot(home.internet.now);
  home.router.address = "203.0.113.99";
  // §3.2.1: after a restart the router announces its address to everybody.
  const announcement = bytes("0080 0000 00000001 cb007163");
  home.do(home.mapper.receive("natpmp", announcement, FROM, home.internet.now + 1_000));
  home.run(2_000);
  assert.deepEqual(home.told, ["203.0.113.7:51820", undefined, "203.0.113.99:51820"]);
});

test("an announcement by anybody but the gateway changes nothing", () => {
  const home = new Home(new HomeRouter({ natpmp: true })).run(5_000);
  const announcement = bytes("0080 0000 00000001 cb007163");
  home.do(home.mapper.receive("natpmp", announcement, parseEndpoint("192.168.1.66:5351"), home.internet.now));
  home.run(2_000);
  assert.equal(home.told.length, 1);
});

test("UPnP: a router that grants permanent mappings alone (725) is asked for one", () => {
  const router = new HomeRouter({ upnp: true });
  router.onlyPermanent = true;
  const home = new Home(router).run(5_000);
  assert.equal(home.status, "upnp 203.0.113.7:51820");
  assert.deepEqual(router.mappings.get(PORT), { by: "upnp", lease: 0 });
});

test("UPnP: a port that is taken (718) is left for another, at most four times", () => {
  const router = new HomeRouter({ upnp: true });
  router.taken.add(PORT);
  const home = new Home(router).run(5_000);
  assert.match(home.status, /^upnp 203\.0\.113\.7:\d+$/);
  assert.ok(!router.mappings.has(PORT) && router.mappings.size === 1);
  const full = new HomeRouter({ upnp: true });
  for (let port = 0; port < 65_536; port++) full.taken.add(port);
  const failed = new Home(full).run(5_000);
  assert.equal(failed.status, "none");
  assert.ok(PORTS_TRIED_MAX <= 4);
});

test("PCP: another port than the wanted one is taken as it is granted", () => {
  const router = new HomeRouter({ pcp: true });
  router.taken.add(PORT);
  assert.equal(new Home(router).run(5_000).status, "pcp 203.0.113.7:51821");
});

test("PCP: an answer with another nonce or for another port is not ours", () => {
  const pcp = pcpService(GATEWAY, CLIENT, PORT, random);
  pcp.map(0);
  pcp.receive(bytes(PCP_MAPPED.replace(hex(NONCE), "ffffffffffffffffffffffff")), FROM, 1);
  pcp.receive(bytes(PCP_MAPPED.replace("ca6c", "ca6d")), FROM, 1);
  assert.equal(pcp.state.kind, "asking");
  pcp.receive(bytes(PCP_MAPPED), FROM, 1);
  assert.equal(pcp.state.kind, "held");
});

test("a router without any service is asked again after ten minutes, and then used", () => {
  const home = new Home(new HomeRouter()).run(5_000);
  home.router.offers.natpmp = true;
  home.run(LOOK_AGAIN_MS + 5_000);
  assert.equal(home.status, "natpmp 203.0.113.7:51820");
});

test("stopping gives the mapping back and says so", () => {
  for (const offers of [{ pcp: true }, { natpmp: true }, { upnp: true }]) {
    const home = new Home(new HomeRouter(offers)).run(5_000);
    home.do(home.mapper.stop(home.internet.now));
    home.run(1_000);
    assert.equal(home.router.mappings.size, 0);
    assert.equal(home.told.at(-1), undefined);
    assert.equal(home.mapper.deadline, undefined);
  }
});

test("ten thousand datagrams of garbage throw nothing", () => {
  const home = new Home(new HomeRouter({ pcp: true, natpmp: true, upnp: true }));
  const { random: chance } = home.internet;
  for (let i = 0; i < 10_000; i++) {
    const datagram = chance(i % 90);
    datagram[0] = i % 3;
    for (const name of ["pcp", "natpmp", "upnp"] as const) home.mapper.receive(name, datagram, FROM, 0);
  }
});
