import { join } from "node:path";
import { keyPairOf } from "../kit/crypto.js";
import { Failure } from "../kit/failure.js";
import { keyBytes, keyOf, parseKey } from "../kit/key.js";
import { localFiles } from "../sys/files.js";
import { fingerprintOf } from "../sys/tls.js";
import { RELAY_FILES } from "../wire/relayconfig.js";
import type { RelayPlaces } from "./relaydaemon.js";

/** What whoever enters a relay into a map has to know of it: the public halves of its keys. */
export async function relayIdentity(places: RelayPlaces): Promise<{ publicKey: string; tlsFingerprint: string }> {
  const [secret, certificate] = await Promise.all(
    [RELAY_FILES.noiseKey, RELAY_FILES.tlsCertificate].map((name) => localFiles.readText(join(places.var, name))),
  );
  if (secret === undefined || certificate === undefined)
    throw new Failure("relay-unstarted", `the relay has made no keys in ${places.var} yet`, {
      advice: "systemctl start exitnode-relay",
    });
  const publicKey = keyOf(keyPairOf(keyBytes(parseKey(secret.trim()))).publicKey);
  return { publicKey, tlsFingerprint: fingerprintOf(certificate) };
}
