import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import type { Files } from "./files.js";

/** A server's identity in TLS: PEM texts and the fingerprint a client pins. */
export type TlsIdentity = {
  readonly key: string;
  readonly certificate: string;
  /** SHA-256 of the certificate, colon-separated upper-case hex. */
  readonly fingerprint: string;
};

/** Twenty years: whoever dials pins the certificate or proves the server by key, so that its end protects nobody. */
const VALIDITY_MS = 20 * 365 * 24 * 3_600_000;

/** The identity kept in two files, made (self-signed, P-256) when they are absent. */
export async function keepTlsIdentity(
  files: Files,
  paths: { readonly key: string; readonly certificate: string },
  hosts: readonly string[],
  now: number,
): Promise<TlsIdentity> {
  const key = await files.readText(paths.key);
  const certificate = await files.readText(paths.certificate);
  if (key !== undefined && certificate !== undefined)
    return { key, certificate, fingerprint: fingerprintOf(certificate) };
  const made = await selfSigned(hosts, now);
  await files.write(paths.key, made.key, { mode: 0o600 });
  await files.write(paths.certificate, made.certificate);
  return made;
}

async function selfSigned(hosts: readonly string[], now: number): Promise<TlsIdentity> {
  // By its default: a CommonJS module in a chunk of its own has no names in the shipped program.
  const {
    default: { generate },
  } = await import("selfsigned");
  const made = await generate([{ name: "commonName", value: hosts[0] ?? "exitnode" }], {
    keyType: "ec",
    curve: "P-256",
    algorithm: "sha256",
    notBeforeDate: new Date(now - 24 * 3_600_000), // a device's clock may be behind
    notAfterDate: new Date(now + VALIDITY_MS),
    extensions: [
      { name: "basicConstraints", cA: false },
      { name: "keyUsage", digitalSignature: true },
      { name: "extKeyUsage", serverAuth: true },
      {
        name: "subjectAltName",
        altNames: hosts.map((host) => (isIP(host) === 0 ? { type: 2, value: host } : { type: 7, ip: host })),
      },
    ],
  });
  return { key: made.private, certificate: made.cert, fingerprint: fingerprintOf(made.cert) };
}

export const fingerprintOf = (certificate: string): string => new X509Certificate(certificate).fingerprint256;
