package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// ErrAgent is wrapped when an agent does not sign.
var ErrAgent = errors.New("the SSH agent does not sign")

// Agent is an SSH agent (draft-ietf-sshm-ssh-agent), which keeps private keys
// and signs with them: an ed25519 signature of an agent is that of the bare
// message (RFC 8709), so it is as good as one of our own.
type Agent struct {
	socket string
}

// NewAgent returns the agent behind a Unix socket.
func NewAgent(socket string) *Agent { return &Agent{socket: socket} }

// talk calls f with the agent, and ends the connection when ctx ends: an agent
// may wait for a person.
func (a *Agent) talk(ctx context.Context, f func(agent.ExtendedAgent) error) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", a.socket)
	if err != nil {
		return fmt.Errorf("reach the SSH agent: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err = f(agent.NewClient(conn))
	if stop() {
		_ = conn.Close()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Keys returns the public halves of the ed25519 keys that the agent has.
func (a *Agent) Keys(ctx context.Context) ([]ed25519.PublicKey, error) {
	var out []ed25519.PublicKey
	err := a.talk(ctx, func(c agent.ExtendedAgent) error {
		list, err := c.List()
		if err != nil {
			return fmt.Errorf("ask the SSH agent for its keys: %w", err)
		}
		for _, k := range list {
			if k.Type() != ssh.KeyAlgoED25519 {
				continue // also those on security keys: they sign more than the message
			}
			pub, err := ssh.ParsePublicKey(k.Blob)
			if err != nil {
				continue // another program's business
			}
			if p, ok := pub.(ssh.CryptoPublicKey).CryptoPublicKey().(ed25519.PublicKey); ok {
				out = append(out, p)
			}
		}
		return nil
	})
	return out, err
}

// Signer returns a signer for a key that the agent has, and nil if it does not
// have it. Signing ends with ctx.
func (a *Agent) Signer(ctx context.Context, pub ed25519.PublicKey) (crypto.Signer, error) {
	have, err := a.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range have {
		if k.Equal(pub) {
			return &agentSigner{ctx: ctx, agent: a, pub: bytes.Clone(pub)}, nil
		}
	}
	return nil, nil
}

// agentSigner is a crypto.Signer, whose Sign has no context of its own.
type agentSigner struct {
	ctx   context.Context
	agent *Agent
	pub   ed25519.PublicKey
}

var _ crypto.Signer = (*agentSigner)(nil)

// Public implements crypto.Signer.
func (s *agentSigner) Public() crypto.PublicKey { return s.pub }

// Sign implements crypto.Signer for messages that have not been hashed.
func (s *agentSigner) Sign(_ io.Reader, message []byte, o crypto.SignerOpts) ([]byte, error) {
	if o.HashFunc() != 0 {
		return nil, fmt.Errorf("%w: ed25519 signs whole messages, not hashes", ErrAgent)
	}
	pub, err := ssh.NewPublicKey(s.pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAgent, err)
	}
	var sig *ssh.Signature
	if err := s.agent.talk(s.ctx, func(c agent.ExtendedAgent) error {
		sig, err = c.Sign(pub, message)
		return err
	}); err != nil {
		return nil, fmt.Errorf("%w (is it locked, or did somebody say no?): %w", ErrAgent, err)
	}
	if sig.Format != ssh.KeyAlgoED25519 || !ed25519.Verify(s.pub, message, sig.Blob) {
		return nil, fmt.Errorf("%w: its signature is wrong", ErrAgent)
	}
	return sig.Blob, nil
}
