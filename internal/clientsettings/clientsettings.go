// Package clientsettings is what a server of a LAN tells one machine about
// itself: what to boot, with which arguments and variables. The server signs each
// answer with a key of its own, which a machine has from its medium or its
// command line, and the answer names the machine and the random number of its
// request. So an answer is good for that one question, whoever has passed it on.
package clientsettings

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/bootsettings"
	"github.com/inetboot/inetboot/internal/strictjson"
)

// Where a server answers, below its URL.
const (
	Path        = "api/v1/settings"
	UnknownPath = "api/v1/clients/unknown" // takes an Announcement
)

// Format is the value of an Answer's "format".
const Format = "inetboot-client-settings/1"

// Bounds of what travels.
const (
	MaxSize         = 128 << 10 // bytes of a signed answer
	MaxAnnouncement = 4 << 10   // bytes of an announcement
	MaxValidity     = 24 * time.Hour
	MaxName         = 63 // bytes of an announced name
	maxVariables    = 512
	maxValue        = 4 << 10
	maxText         = 253
	nonceSize       = 16
)

// The reasons for which an answer does not count. Errors wrap them.
var (
	ErrInvalid   = errors.New("invalid answer")
	ErrSignature = errors.New("the answer is not signed with the settings key that this machine trusts")
	ErrOther     = errors.New("the answer is for another request")
	ErrExpired   = errors.New("the answer has expired")
)

// Request is what a machine says of itself, and a number that it uses once.
type Request struct {
	MAC   string // six bytes with colons, lower case
	UUID  string // of SMBIOS, lower case; "": it has none
	Host  string // that the network calls it by; "": none
	Nonce string // 32 hexadecimal digits
}

// NewNonce returns a number for one request.
func NewNonce() (string, error) {
	var b [nonceSize]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("ask for the settings of this machine: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// Query returns the request as that of a URL.
func (r *Request) Query() url.Values {
	v := url.Values{"mac": {r.MAC}, "nonce": {r.Nonce}}
	if r.UUID != "" {
		v.Set("uuid", r.UUID)
	}
	if r.Host != "" {
		v.Set("host", r.Host)
	}
	return v
}

// Check returns an error that wraps ErrInvalid if the request is none.
func (r *Request) Check() error {
	if err := checkMachine(r.MAC, r.UUID); err != nil {
		return err
	}
	if b, err := hex.DecodeString(r.Nonce); err != nil || len(b) != nonceSize {
		return fmt.Errorf("%w: nonce: want %d hexadecimal digits", ErrInvalid, 2*nonceSize)
	}
	if !bootsettings.Line(r.Host, maxText) {
		return fmt.Errorf("%w: host", ErrInvalid)
	}
	return nil
}

func checkMachine(mac, uuid string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil || len(hw) != 6 || hw.String() != mac {
		return fmt.Errorf("%w: mac: want six bytes as 52:54:00:12:34:56, in lower case", ErrInvalid)
	}
	if len(uuid) > 64 || strings.ContainsFunc(uuid, func(c rune) bool { return c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') }) {
		return fmt.Errorf("%w: uuid: want hexadecimal digits and dashes, in lower case", ErrInvalid)
	}
	return nil
}

// Answer is what holds for a machine.
type Answer struct {
	Format   string   `json:"format"`
	Requires []string `json:"requires,omitempty"` // features without which the answer must not be used

	// What the request said.
	MAC   string `json:"mac"`
	UUID  string `json:"uuid,omitempty"`
	Host  string `json:"host,omitempty"`
	Nonce string `json:"nonce"`

	// By the server's clock. A machine measures how long the answer counts by
	// its own, from when it came: the nonce says that it is new.
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`

	Known     bool   `json:"known"`
	SetupOnly bool   `json:"setup_only,omitempty"` // a machine that is not known, which gets the entries for setting up alone
	Image     string `json:"image,omitempty"`      // NAME or NAME/VERSION to boot unattended
	Entry     string `json:"entry,omitempty"`      // of the menu, likewise
	Timeout   *int   `json:"timeout,omitempty"`    // seconds until that boots: 0 at once, -1 never; absent: as the medium or the menu says

	// Settings go over those of the catalog. Of a publisher's settings they have
	// no files, keys or script.
	Settings *bootsettings.Settings `json:"settings,omitempty"`
	// Variables are all of it by names of a shell, for the machine's settings file.
	Variables map[string]string `json:"variables,omitempty"`
}

// Validity is how long the answer counts.
func (a *Answer) Validity() time.Duration { return a.Expires.Sub(a.Issued) }

// Check returns an error that wraps ErrInvalid if a cannot be acted on, or a
// *strictjson.RequiresError.
func (a *Answer) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
	}
	if a.Format != Format {
		return bad("format is %q, want %q", a.Format, Format)
	}
	if err := strictjson.Requires("the settings of this machine", a.Requires, nil); err != nil {
		return err
	}
	if err := (&Request{a.MAC, a.UUID, a.Host, a.Nonce}).Check(); err != nil {
		return err
	}
	if v := a.Validity(); v > MaxValidity {
		return bad("it would count for %v, at most %v are allowed", v, MaxValidity)
	}
	if !bootsettings.Line(a.Image, maxText) || !bootsettings.Line(a.Entry, maxText) {
		return bad("image or entry")
	}
	if t := a.Timeout; t != nil && (*t < -1 || *t > 86400) {
		return bad("timeout %d is not between -1 and 86400 seconds", *t)
	}
	if s := a.Settings; s != nil {
		if err := s.Check(); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if len(s.Files) > 0 || len(s.SSHKeys) > 0 || s.Script != nil {
			return bad("settings of a machine have no files, keys or script: these are signed by a publisher")
		}
	}
	return CheckVariables(a.Variables)
}

// CheckVariables returns an error that wraps ErrInvalid if v cannot be written
// into a settings file.
func CheckVariables(v map[string]string) error {
	if len(v) > maxVariables {
		return fmt.Errorf("%w: %d variables, at most %d are allowed", ErrInvalid, len(v), maxVariables)
	}
	for name, value := range v {
		if !bootsettings.VariableName(name) {
			return fmt.Errorf("%w: variable %q", ErrInvalid, name)
		}
		if name == "" || len(name) > maxText || !bootsettings.Line(value, maxValue) {
			return fmt.Errorf("%w: variable %q has a long name or value, or characters that are not printable", ErrInvalid, name)
		}
	}
	return nil
}

// envelope is an answer on its way.
type envelope struct {
	Payload   string `json:"payload"`   // the Answer, as JSON
	Signature string `json:"signature"` // 128 hexadecimal digits: ed25519 (RFC 8032) of signed(Payload)
}

// signed is what the signature is of. The first line keeps the key's signatures
// from meaning anything elsewhere.
func signed(payload string) []byte { return []byte(Format + "\n" + payload) }

// Sign returns the answer as a machine takes it.
func Sign(key ed25519.PrivateKey, a *Answer) ([]byte, error) {
	c := *a
	c.Format = Format
	if err := c.Check(); err != nil {
		return nil, err
	}
	payload, err := json.Marshal(&c)
	if err != nil {
		return nil, fmt.Errorf("encode the settings of %s: %w", a.MAC, err)
	}
	data, err := json.Marshal(&envelope{string(payload), hex.EncodeToString(ed25519.Sign(key, signed(string(payload))))})
	if err == nil && len(data) > MaxSize {
		err = fmt.Errorf("%w: the settings of %s have %d bytes, at most %d are allowed", ErrInvalid, a.MAC, len(data), MaxSize)
	}
	return data, err
}

// Open returns the answer to a request if it is one and key has signed it.
func Open(data []byte, key ed25519.PublicKey, r *Request) (*Answer, error) {
	var e envelope
	if err := strictjson.Unmarshal(data, MaxSize, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	sig, err := hex.DecodeString(e.Signature)
	if err != nil || len(sig) != ed25519.SignatureSize || len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, signed(e.Payload), sig) {
		return nil, ErrSignature
	}
	var a Answer
	if err := strictjson.Unmarshal([]byte(e.Payload), MaxSize, &a); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := a.Check(); err != nil {
		return nil, err
	}
	if (Request{a.MAC, a.UUID, a.Host, a.Nonce}) != *r {
		return nil, ErrOther
	}
	if a.Validity() <= 0 {
		return nil, ErrExpired
	}
	return &a, nil
}

// Announcement is what somebody at a machine that is not known says of it.
type Announcement struct {
	MAC  string `json:"mac"`
	UUID string `json:"uuid,omitempty"`
	Name string `json:"name"` // that it should have; "": any
}

// ParseAnnouncement reads and checks an announcement.
func ParseAnnouncement(data []byte) (*Announcement, error) {
	var a Announcement
	if err := strictjson.Unmarshal(data, MaxAnnouncement, &a); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return &a, a.Check()
}

// Check returns an error that wraps ErrInvalid if a is no announcement.
func (a *Announcement) Check() error {
	if err := checkMachine(a.MAC, a.UUID); err != nil {
		return err
	}
	return CheckName(a.Name)
}

// CheckName returns an error that wraps ErrInvalid if s is no name that a
// machine can be announced by: a label of a host name (RFC 1123 section 2.1) in
// lower case, or none.
func CheckName(s string) error {
	bad := len(s) > MaxName || strings.HasPrefix(s, "-") || strings.HasSuffix(s, "-") ||
		strings.ContainsFunc(s, func(c rune) bool { return c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') })
	if bad {
		return fmt.Errorf("%w: the name %q: want small letters, digits and dashes, at most %d", ErrInvalid, s, MaxName)
	}
	return nil
}
