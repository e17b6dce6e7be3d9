import { createSocket, type Socket } from "node:dgram";
import { request as httpRequest } from "node:http";
import { createInterface } from "node:readline";
import { formatEndpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { parseIp } from "../../src/kit/ip.js";
import { natPmpService, pcpService } from "../../src/nat/portmap/lease.js";
import { type PortMapEffect, PortMapper } from "../../src/nat/portmap/portmapper.js";
import type { HttpAnswer, HttpRequest, ServiceName } from "../../src/nat/portmap/service.js";
import { HTTP_TIMEOUT_MS } from "../../src/nat/portmap/service.js";
import { UpnpService } from "../../src/nat/portmap/upnp.js";

/**
 * The port mapper with real sockets, in a namespace of its own: node portmapdriver.js GATEWAY CLIENT PORT SERVICE…
 * Says on stdout what happens; a line on stdin gives the mapping back. Its clock is slow: on a busy machine a router
 * that is there would be taken for one that is not.
 */
const SLOWNESS = 5;

const [gatewayText = "", clientText = "", portText = "", ...names] = process.argv.slice(2);
const [gateway, client, port] = [parseIp(gatewayText), parseIp(clientText), Number(portText)];
const now = (): number => performance.now() / SLOWNESS;
const random = (length: number): Uint8Array => crypto.getRandomValues(new Uint8Array(length));
const say = (line: string): void => void process.stdout.write(`${line}\n`);

const all = [
  pcpService(gateway, client, port, random),
  natPmpService(gateway, port),
  new UpnpService(gateway, client, port, random),
];
const services = all.filter(({ name }) => names.includes(name));
const mapper = new PortMapper(services);
const sockets = new Map<ServiceName, Socket>();
let timer: NodeJS.Timeout | undefined;
/** Once the mapping is given back, the next answer is the router's to that. */
let isGivenBack = false;
const endWhenGivenBack = (): void => {
  if (isGivenBack) process.exit(0);
};

function act(effects: readonly PortMapEffect[]): void {
  for (const effect of effects) {
    if (effect.kind === "datagram")
      sockets.get(effect.service)?.send(effect.datagram, effect.to.port, effect.to.address);
    else if (effect.kind === "http")
      void fetchPlain(effect.request).then((answer) => {
        say(`http ${effect.service} ${answer?.status ?? "nothing"}`);
        act(mapper.answered(effect.service, effect.id, answer, now()));
        endWhenGivenBack();
      });
    else if (effect.kind === "verify") say(`verify ${formatEndpoint(effect.endpoint)}`);
    else {
      if (mapper.status.kind === "mapped") say(`by ${mapper.status.service}`);
      say(`mapped ${effect.endpoint === undefined ? "nothing" : formatEndpoint(effect.endpoint)}`);
    }
  }
  const { status } = mapper;
  if (status.kind === "none") say(`none ${status.why.join("; ")}`);
  clearTimeout(timer);
  const { deadline } = mapper;
  if (deadline !== undefined)
    timer = setTimeout(() => act(mapper.tick(now())), Math.max(0, deadline - now()) * SLOWNESS);
}

function fetchPlain({ method, url, headers, body }: HttpRequest): Promise<HttpAnswer | undefined> {
  return new Promise((resolve) => {
    const length = { "content-length": String(Buffer.byteLength(body)) };
    const asked = httpRequest(url, {
      method,
      headers: { ...headers, ...length },
      localAddress: client,
      timeout: HTTP_TIMEOUT_MS * SLOWNESS,
    });
    asked.on("timeout", () => asked.destroy());
    asked.on("error", () => resolve(undefined));
    asked.on("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body: text }));
    });
    asked.end(body);
  });
}

const listening = [
  ...services.map(({ name }) => {
    const socket = createSocket("udp4", (datagram, { address, port: from }) => {
      act(mapper.receive(name, datagram, { address: parseIp(address), port: from }, now()));
      endWhenGivenBack();
    });
    sockets.set(name, socket);
    return new Promise<void>((resolve) => socket.bind(0, client, resolve));
  }),
  new Promise<void>((resolve) => {
    // In WireGuard's place: what comes in here from outside proves the mapping.
    const inside = createSocket("udp4", (datagram) =>
      act(mapper.verified(parseEndpoint(datagram.toString()), true, now())),
    );
    inside.bind(port, client, resolve);
  }),
];
await Promise.all(listening);
for (const line of services.map(({ name }) => name)) say(`looking for ${line}`);
act(mapper.start(now()));

createInterface({ input: process.stdin }).once("line", () => {
  isGivenBack = true;
  act(mapper.stop(now()));
});
