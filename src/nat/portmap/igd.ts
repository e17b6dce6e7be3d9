import { fromUtf8, utf8 } from "../../kit/bytes.js";
import { familyOf, type Ip, tryIp } from "../../kit/ip.js";
import type { HttpAnswer, HttpRequest } from "./service.js";

/**
 * The texts of UPnP's Internet gateway device (UPnP Device Architecture 1.1 §1.3, WANIPConnection:2): SSDP to find it,
 * its description to find the control URL, SOAP to ask. XML comes from routers of every quality, so a few elements are
 * picked out of it, and nothing else is read. Only the gateway itself is ever asked, whatever URL it names.
 */
export const SSDP_PORT = 1_900;
export const SSDP_GROUP = "239.255.255.250" as Ip;
/** A description is a few kilobytes. */
export const DESCRIPTION_BYTES_MAX = 64 * 1024;
const SSDP_BYTES_MAX = 2_048;
const SERVICES_MAX = 64;
const URL_CHARACTERS_MAX = 512;

/** Best first. */
const CONNECTIONS = [
  "urn:schemas-upnp-org:service:WANIPConnection:2",
  "urn:schemas-upnp-org:service:WANIPConnection:1",
  "urn:schemas-upnp-org:service:WANPPPConnection:1",
] as const;

export type Control = { readonly url: string; readonly serviceType: string };

/** One search per version of the device: not every router answers for the older one. */
export function searches(): Uint8Array[] {
  return [2, 1].map((version) =>
    utf8(
      [
        "M-SEARCH * HTTP/1.1",
        `HOST: ${SSDP_GROUP}:${SSDP_PORT}`,
        'MAN: "ssdp:discover"',
        "MX: 1",
        `ST: urn:schemas-upnp-org:device:InternetGatewayDevice:${version}`,
        "",
        "",
      ].join("\r\n"),
    ),
  );
}

/** Where the description is, from an answer to a search; undefined unless it lies on the gateway itself. */
export function locationOf(datagram: Uint8Array, gateway: Ip): string | undefined {
  if (datagram.length > SSDP_BYTES_MAX) return undefined;
  const [status, ...headers] = fromUtf8(datagram)?.split("\r\n") ?? [];
  if (status === undefined || !/^HTTP\/1\.[01] 200(?: |$)/.test(status)) return undefined;
  const line = headers.find((header) => /^location:/i.test(header));
  return line === undefined ? undefined : onGateway(line.slice("location:".length).trim(), undefined, gateway);
}

/** The connection service's control URL out of a description. */
export function controlOf(description: string, location: string, gateway: Ip): Control | undefined {
  if (description.length > DESCRIPTION_BYTES_MAX) return undefined;
  const services = description
    .split("<service>")
    .slice(1, 1 + SERVICES_MAX)
    .map((rest) => rest.slice(0, Math.max(0, rest.indexOf("</service>"))));
  for (const wanted of CONNECTIONS) {
    const service = services.find((text) => elementOf(text, "serviceType") === wanted);
    const path = service === undefined ? undefined : elementOf(service, "controlURL");
    const url = path === undefined ? undefined : onGateway(path, location, gateway);
    if (url !== undefined) return { url, serviceType: wanted };
  }
  return undefined;
}

export const askAddress = (control: Control): HttpRequest => soap(control, "GetExternalIPAddress", {});

export type PortMapping = {
  readonly externalPort: number;
  readonly internalPort: number;
  readonly client: Ip;
  /** 0: until the router restarts. */
  readonly leaseSeconds: number;
};

export const askMapping = (control: Control, mapping: PortMapping): HttpRequest =>
  soap(control, "AddPortMapping", {
    NewRemoteHost: "",
    NewExternalPort: String(mapping.externalPort),
    NewProtocol: "UDP",
    NewInternalPort: String(mapping.internalPort),
    NewInternalClient: mapping.client,
    NewEnabled: "1",
    NewPortMappingDescription: "exitnode",
    NewLeaseDuration: String(mapping.leaseSeconds),
  });

export const askDeletion = (control: Control, externalPort: number): HttpRequest =>
  soap(control, "DeletePortMapping", {
    NewRemoteHost: "",
    NewExternalPort: String(externalPort),
    NewProtocol: "UDP",
  });

/** What SOAP answered: the address, if it holds one, or the code of the refusal. */
export type SoapAnswer =
  | { readonly kind: "done"; readonly address: Ip | undefined }
  | { readonly kind: "refused"; readonly code: number | undefined };

export function readSoap({ status, body }: HttpAnswer): SoapAnswer {
  if (body.length > DESCRIPTION_BYTES_MAX) return { kind: "refused", code: undefined };
  const code = elementOf(body, "errorCode");
  if (status < 200 || status > 299 || code !== undefined)
    return { kind: "refused", code: code !== undefined && /^\d{1,4}$/.test(code) ? Number(code) : undefined };
  return { kind: "done", address: tryIp(elementOf(body, "NewExternalIPAddress") ?? "") };
}

/** WANIPConnection:2 §2.5, and UPnP Device Architecture 1.1 §3.2.2. */
export function wordsOf(code: number | undefined): string {
  switch (code) {
    case undefined:
      return "the router's UPnP answers nothing that can be read";
    case 401:
      return "the router's UPnP does not know the request";
    case 606:
      return "the router's UPnP refuses mappings: they are turned off there";
    case 718:
      return "every port that was asked for is taken on the router";
    case 728:
      return "the router's table of mappings is full";
    default:
      return `the router's UPnP refuses with code ${code}`;
  }
}

/** The text of the first element of that name, whatever its prefix; elements within it are not looked into. */
function elementOf(xml: string, name: string): string | undefined {
  const match = new RegExp(`<(?:[\\w.-]{1,32}:)?${name}(?:\\s[^<>]{0,200})?>([^<]{0,${URL_CHARACTERS_MAX}})<`).exec(
    xml,
  );
  return match?.[1] === undefined ? undefined : unescapeXml(match[1].trim());
}

const ENTITIES: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

const unescapeXml = (text: string): string => text.replace(/&(\w{2,4});/g, (whole, name) => ENTITIES[name] ?? whole);

function onGateway(text: string, base: string | undefined, gateway: Ip): string | undefined {
  if (text.length > URL_CHARACTERS_MAX || !URL.canParse(text, base)) return undefined;
  const url = new URL(text, base);
  const host = tryIp(url.hostname.replace(/^\[(.*)\]$/, "$1"));
  const isPlain = url.protocol === "http:" && url.username === "" && url.password === "";
  return isPlain && host === gateway && familyOf(host) === 4 ? url.href : undefined;
}

function soap({ url, serviceType }: Control, action: string, values: Readonly<Record<string, string>>): HttpRequest {
  const elements = Object.entries(values).map(([name, value]) => `<${name}>${value}</${name}>`);
  const body = [
    '<?xml version="1.0"?>',
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">',
    `<s:Body><u:${action} xmlns:u="${serviceType}">${elements.join("")}</u:${action}></s:Body>`,
    "</s:Envelope>",
    "",
  ].join("\r\n");
  const headers = { "content-type": 'text/xml; charset="utf-8"', soapaction: `"${serviceType}#${action}"` };
  return { method: "POST", url, headers, body };
}
