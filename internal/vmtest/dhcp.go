package vmtest

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// DHCPMessage is a DHCPv4 message seen on a network card.
type DHCPMessage struct {
	Type layers.DHCPMsgType
	XID  uint32
	MAC  string // of the client
}

// DHCPMessages reads the DHCPv4 messages out of a capture, in order. A capture
// that is still being written may end in the middle of a packet.
func DHCPMessages(pcap string) ([]DHCPMessage, error) {
	f, err := os.Open(pcap)
	if err != nil {
		return nil, fmt.Errorf("open the capture: %w", err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("read the capture: %w", err)
	}
	var found []DHCPMessage
	for {
		data, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the capture: %w", err)
		}
		p := gopacket.NewPacket(data, r.LinkType(), gopacket.DecodeOptions{Lazy: true, NoCopy: true})
		d, ok := p.Layer(layers.LayerTypeDHCPv4).(*layers.DHCPv4)
		if !ok {
			continue
		}
		for _, o := range d.Options {
			if o.Type == layers.DHCPOptMessageType && len(o.Data) == 1 {
				found = append(found, DHCPMessage{layers.DHCPMsgType(o.Data[0]), d.Xid, d.ClientHWAddr.String()})
			}
		}
	}
}

// DHCPExchanges counts the DISCOVER messages with a transaction of their own:
// how often a client has asked for an address from nothing, and the REQUEST
// messages of other transactions: renewals and clients that ask again for an
// address that they know.
func DHCPExchanges(messages []DHCPMessage) (discovers, otherRequests int) {
	discovered, requested := map[uint32]bool{}, map[uint32]bool{}
	for _, m := range messages {
		switch m.Type {
		case layers.DHCPMsgTypeDiscover:
			discovered[m.XID] = true
		case layers.DHCPMsgTypeRequest:
			requested[m.XID] = true
		}
	}
	for xid := range requested {
		if !discovered[xid] {
			otherRequests++
		}
	}
	return len(discovered), otherRequests
}
