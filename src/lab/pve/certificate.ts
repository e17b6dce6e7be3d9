import { X509Certificate } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { generate } from "selfsigned";
import { writeWhole } from "./statefile.js";

export type Certificate = { readonly key: string; readonly cert: string; readonly fingerprint: string };

/** Ten years: the lab's clients pin the fingerprint. */
const VALID_DAYS = 3_650;

/** The node's certificate, made once; the fingerprint is what Proxmox's own interface shows (SHA-256). */
export async function readCertificate(stateDir: string, nodeName: string): Promise<Certificate> {
  const path = join(stateDir, "pve-ssl.pem");
  if (!existsSync(path)) {
    const notAfterDate = new Date(Date.now() + VALID_DAYS * 86_400_000);
    const made = await generate([{ name: "commonName", value: nodeName }], {
      keyType: "ec",
      curve: "P-256",
      notAfterDate,
    });
    writeWhole(path, `${made.private}\n${made.cert}`, 0o600);
  }
  const text = readFileSync(path, "utf8");
  const at = text.indexOf("-----BEGIN CERTIFICATE-----");
  const cert = text.slice(at);
  return { key: text.slice(0, at), cert, fingerprint: new X509Certificate(cert).fingerprint256 };
}
