package tftp

import (
	"bytes"
	"container/list"
	"context"
	"net/netip"
	"sync"
)

// verdict is what becomes of a request.
type verdict int

const (
	admitted  verdict = iota
	repeated          // the same request again: its transfer repeats what was lost
	hostBusy          // the client has too many transfers
	allBusy           // all clients together have
	notWanted         // the server ends
)

// sessions bounds transfers. One whose client has not answered anything yet is
// half open: it may come from a forged address, and has to give way when there
// are too many, the oldest first.
type sessions struct {
	max, perHost int

	mu       sync.Mutex
	byPeer   map[netip.AddrPort]*session
	hosts    map[netip.Addr]int
	halfOpen list.List // of *session, the oldest in front
	running  int       // goroutines, of those, too, that were told to end
	closed   bool
	idle     sync.WaitGroup
}

// session is one transfer's place.
type session struct {
	peer    netip.AddrPort
	request []byte
	end     context.CancelFunc
	half    *list.Element // nil when the client has answered
	gone    bool          // no longer in the maps
}

func newSessions(limit, perHost int) *sessions {
	return &sessions{max: limit, perHost: perHost, byPeer: map[netip.AddrPort]*session{}, hosts: map[netip.Addr]int{}}
}

// admit makes room for a transfer, if there is any.
func (s *sessions) admit(peer netip.AddrPort, request []byte, end context.CancelFunc) (*session, verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, notWanted
	}
	if old := s.byPeer[peer]; old != nil {
		if old.half != nil && bytes.Equal(old.request, request) {
			return nil, repeated
		}
		// Firmware that takes the same port for the next file has given up this one.
		s.drop(old)
	}
	if s.hosts[peer.Addr()] >= s.perHost {
		return nil, hostBusy
	}
	if len(s.byPeer) >= s.max {
		oldest := s.halfOpen.Front()
		if oldest == nil {
			return nil, allBusy
		}
		s.drop(oldest.Value.(*session))
	}
	if s.running >= 2*s.max { // those that were dropped have not ended yet
		return nil, allBusy
	}
	n := &session{peer: peer, request: bytes.Clone(request), end: end}
	n.half = s.halfOpen.PushBack(n)
	s.byPeer[peer] = n
	s.hosts[peer.Addr()]++
	s.running++
	s.idle.Add(1)
	return n, admitted
}

// answered says that the client is there.
func (s *sessions) answered(n *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.half != nil {
		s.halfOpen.Remove(n.half)
		n.half, n.request = nil, nil
	}
}

// finished gives the place back.
func (s *sessions) finished(n *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(n)
	s.running--
	s.idle.Done()
}

// drop ends n and takes it out of the maps. s.mu is held.
func (s *sessions) drop(n *session) {
	if n.gone {
		return
	}
	n.gone = true
	n.end()
	delete(s.byPeer, n.peer)
	if s.hosts[n.peer.Addr()]--; s.hosts[n.peer.Addr()] == 0 {
		delete(s.hosts, n.peer.Addr())
	}
	if n.half != nil {
		s.halfOpen.Remove(n.half)
		n.half = nil
	}
}

// open lets clients in.
func (s *sessions) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = false
}

// close lets nobody in and waits until all transfers have ended.
func (s *sessions) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.idle.Wait()
}
