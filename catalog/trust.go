package catalog

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/inetboot/inetboot/internal/strictjson"
)

// TrustFormat is the value of a Trust's "format".
const TrustFormat = "inetboot-trust/1"

const maxTrust = 12 << 10 // has to fit into the site slot of a medium

// Trust is whose signatures count: what a boot medium carries.
type Trust struct {
	Format    string         `json:"format"`
	Requires  []string       `json:"requires,omitempty"`
	Threshold int            `json:"threshold"` // how many different keys have to sign
	Keys      map[string]Key `json:"keys"`      // by key id
}

// Key is a public key in the form of TUF 1.0 (section 4.2).
type Key struct {
	KeyType string `json:"keytype"` // "ed25519"
	KeyVal  KeyVal `json:"keyval"`
	Scheme  string `json:"scheme"` // "ed25519"
}

// KeyVal holds the key's 32 bytes in hexadecimal.
type KeyVal struct {
	Public string `json:"public"`
}

// NewKey returns pub as a Key.
func NewKey(pub ed25519.PublicKey) Key {
	return Key{KeyType: "ed25519", Scheme: "ed25519", KeyVal: KeyVal{Public: hex.EncodeToString(pub)}}
}

// ID returns the key id: the hash of the key's canonical JSON (TUF 1.0,
// section 4.2), which for these members is what encoding/json writes.
func (k Key) ID() string {
	b, err := json.Marshal(k)
	if err != nil {
		panic(err) // three strings
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (k Key) public() (ed25519.PublicKey, error) {
	if k.KeyType != "ed25519" || k.Scheme != "ed25519" {
		return nil, fmt.Errorf("%w key: type %q, scheme %q, want ed25519", ErrFormat, k.KeyType, k.Scheme)
	}
	b, err := hex.DecodeString(k.KeyVal.Public)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w key: public value is not %d bytes of hexadecimal", ErrFormat, ed25519.PublicKeySize)
	}
	return b, nil
}

// NewTrust trusts keys; threshold of them have to sign.
func NewTrust(threshold int, keys ...Key) *Trust {
	t := &Trust{Format: TrustFormat, Threshold: threshold, Keys: make(map[string]Key)}
	for _, k := range keys {
		t.Keys[k.ID()] = k
	}
	return t
}

// ParseTrust reads and checks a trust file.
func ParseTrust(data []byte) (*Trust, error) {
	var t Trust
	if err := strictjson.Unmarshal(data, maxTrust, &t); err != nil {
		return nil, fmt.Errorf("trust file: %w", err)
	}
	if t.Format != TrustFormat {
		return nil, fmt.Errorf("trust file: %w: format is %q, want %q", ErrFormat, t.Format, TrustFormat)
	}
	if err := strictjson.Requires("the trust file", t.Requires, nil); err != nil {
		return nil, err
	}
	if t.Threshold < 1 || t.Threshold > len(t.Keys) {
		return nil, fmt.Errorf("trust file: %w: threshold %d of %d keys", ErrFormat, t.Threshold, len(t.Keys))
	}
	for id, k := range t.Keys {
		if _, err := k.public(); err != nil {
			return nil, fmt.Errorf("trust file: %w", err)
		}
		if got := k.ID(); got != id {
			return nil, fmt.Errorf("trust file: %w: key %s is listed as %s", ErrFormat, short(got), short(id))
		}
	}
	return &t, nil
}

// Marshal returns t as a trust file.
func (t *Trust) Marshal() ([]byte, error) { return json.MarshalIndent(t, "", " ") }

// keyIDs returns the first digits of the trusted keys' ids, for messages.
func (t *Trust) keyIDs() []string {
	var ids []string
	for id := range t.Keys {
		ids = append(ids, short(id))
	}
	slices.Sort(ids)
	return ids
}

func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
