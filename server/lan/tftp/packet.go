package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Opcodes of RFC 1350 section 5 and RFC 2347.
const (
	opRead  = 1
	opWrite = 2
	opData  = 3
	opAck   = 4
	opError = 5
	opOACK  = 6
)

// Error codes of RFC 1350's appendix and RFC 2347.
const (
	codeUndefined = 0
	codeNotFound  = 1
	codeAccess    = 2
	codeIllegal   = 4
	codeOptions   = 8
)

// maxRequest bounds a request, in bytes. RFC 2347 says 512; some firmware
// fills more of its packet.
const maxRequest = 1500

// maxName bounds the name of a file, in bytes.
const maxName = 255

// refusal is what a client is told in an error packet.
type refusal struct {
	code uint16
	text string
}

func (r *refusal) Error() string { return r.text }

// errIgnore is for packets that get no answer at all: answering what is no
// request would let two servers talk for ever.
var errIgnore = errors.New("no request")

// request is a read request (RRQ).
type request struct {
	name    string // valid for fs.FS
	ascii   bool   // mode netascii, else octet
	options []option
}

// option is one of RFC 2347, its name in lower case.
type option struct{ name, value string }

// parseRequest reads a datagram that came to the server's port: a request, or
// an error that is errIgnore or a *refusal.
func parseRequest(b []byte) (*request, error) {
	if len(b) < 2 {
		return nil, errIgnore
	}
	switch binary.BigEndian.Uint16(b) {
	case opRead:
	case opWrite:
		return nil, &refusal{codeAccess, "this server is read-only"}
	default:
		return nil, errIgnore
	}
	if len(b) > maxRequest {
		return nil, &refusal{codeIllegal, "request too long"}
	}
	rest := b[2:]
	field := func() (string, bool) {
		s, after, ok := bytes.Cut(rest, []byte{0})
		if ok {
			rest = after
		}
		return string(s), ok
	}
	name, ok1 := field()
	mode, ok2 := field()
	if !ok1 || !ok2 {
		return nil, &refusal{codeIllegal, "malformed request"}
	}
	r := &request{}
	switch strings.ToLower(mode) {
	case "octet":
	case "netascii":
		r.ascii = true
	default:
		return nil, &refusal{codeIllegal, "the mode is neither octet nor netascii"}
	}
	var err error
	if r.name, err = cleanName(name); err != nil {
		return nil, err
	}
	for len(rest) > 0 {
		key, ok1 := field()
		value, ok2 := field()
		if !ok1 || !ok2 {
			break // padding behind the last option, as some firmware sends it
		}
		if key == "" {
			continue
		}
		r.options = append(r.options, option{strings.ToLower(key), value})
	}
	return r, nil
}

// cleanName makes a path for fs.FS out of what a client asks for: a slash at
// the start is the top of what is served, backslashes are slashes.
func cleanName(name string) (string, error) {
	// Some DHCP servers end the boot file's name with the option's end mark,
	// which firmware then takes for a part of it.
	for strings.HasSuffix(name, "\xff") {
		name = name[:len(name)-1]
	}
	if len(name) > maxName {
		return "", &refusal{codeAccess, "the file's name is too long"}
	}
	name = strings.ReplaceAll(name, `\`, "/")
	for elem := range strings.SplitSeq(name, "/") {
		if elem == ".." {
			return "", &refusal{codeAccess, "a file's name may not have .. in it"}
		}
	}
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if !fs.ValidPath(name) || name == "" {
		return "", &refusal{codeNotFound, "no such file"}
	}
	return name, nil
}

// errorPacket returns an ERROR packet.
func errorPacket(r *refusal) []byte {
	b := binary.BigEndian.AppendUint16(nil, opError)
	b = binary.BigEndian.AppendUint16(b, r.code)
	return append(append(b, r.text...), 0)
}

// oackPacket returns an OACK packet.
func oackPacket(options []option) []byte {
	b := binary.BigEndian.AppendUint16(nil, opOACK)
	for _, o := range options {
		b = append(append(append(append(b, o.name...), 0), o.value...), 0)
	}
	return b
}

// reply is what a client sends during a transfer.
type reply struct {
	block uint16   // of an ACK
	err   *refusal // of an ERROR, else nil
}

// parseReply reads a packet of a running transfer; false is for those that
// have no place in it.
func parseReply(b []byte) (reply, bool) {
	if len(b) < 4 {
		return reply{}, false
	}
	n := binary.BigEndian.Uint16(b[2:])
	switch binary.BigEndian.Uint16(b) {
	case opAck:
		return reply{block: n}, true
	case opError:
		text, _, _ := bytes.Cut(b[4:min(len(b), 4+200)], []byte{0})
		return reply{err: &refusal{n, strconv.QuoteToASCII(string(text))}}, true
	}
	return reply{}, false
}

// String is for logs.
func (r *refusal) String() string { return fmt.Sprintf("error %d: %s", r.code, r.text) }
