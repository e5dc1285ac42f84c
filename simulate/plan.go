package simulate

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"vaglio"
)

// plan is what must be decided before customers can be made independently of each other: who plays which part, and what
// customers share. It is read only once made. Its size grows with frauds and look-alikes, a few bytes per customer.
type plan struct {
	config Config
	ids    ids
	start  vaglio.Instant

	requests      float64 // expected, of the whole history
	honestRequest float64 // chance of a request on an ordinary payment
	heavyRate     float64 // payments per year of a heavy returner
	newPhone, own float64 // chances that an ordinary request looks like that

	roles      map[int32]*role
	households map[int32]int32 // customer to household
	foreign    []string        // currencies
	merchants  []merchant
	outages    []outage
	affected   map[int32]int32 // customer to outage
	employees  []string
	carriers   int // shared addresses of mobile networks

	d         draw
	free      []int32 // customers without a part, in random order
	sharedSeq int     // owners handed out for shared things
}

// role is the part of a customer who is not just honest.
type role struct {
	pattern  Pattern
	heavy    bool
	share    float64        // of payments that a heavy returner asks back
	at, end  vaglio.Instant // the scheme's moment or span
	requests int
	ring     *ring
	slot     int            // in the ring
	payout   string         // shared with other customers; "": none
	device   string         // of the attacker or group
	ip       string         // of the attacker or group
	employee string         // insider
	labelAt  vaglio.Instant // of a batch; 0: each request has its own
}

type ring struct {
	devices, ips, addresses, payouts []string
	bursts                           []burst
}

type burst struct {
	at, length, labelAt vaglio.Instant
}

type outage struct {
	at       vaglio.Instant
	merchant int
	ip       string
}

type merchant struct {
	id      string
	deposit bool
	reports bool    // deliveries or bookings
	price   float64 // factor on a customer's usual amount
	country string
}

var errTooFew = errors.New("the shares need more customers than there are")

func newPlan(c Config) (*plan, error) {
	p := &plan{config: c, ids: newIDs(c.fingerprint()), start: c.start(), roles: map[int32]*role{},
		households: map[int32]int32{}, affected: map[int32]int32{}, d: newDraw(c.Seed, math.MaxUint64)}
	p.free = make([]int32, c.Customers)
	for i := range p.free {
		p.free[i] = int32(i)
	}
	p.d.Shuffle(len(p.free), func(i, j int) { p.free[i], p.free[j] = p.free[j], p.free[i] })
	p.rates()
	p.market()
	for _, step := range []func() error{p.heavyReturners, p.frauds, p.outageVictims, p.householdMembers} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	p.free = nil
	return p, nil
}

// rates turns the shares into chances, by the expected number of payments.
func (p *plan) rates() {
	c, l := p.config, p.config.LookAlikes
	years := float64(c.Days) / 365
	exposure := (knobs.base.oldCustomers + (1-knobs.base.oldCustomers)/2) * (1 - knobs.base.dormant/2)
	payments := float64(c.Customers) * (1 - l.HeavyReturners) * c.PaymentsPerYear * years * exposure
	p.requests = c.RequestShare * payments / (1 - c.RequestShare*l.HeavyReturnerRequests/knobs.heavy.share)
	heavyRequests := l.HeavyReturnerRequests * p.requests
	if heavy := float64(c.Customers) * l.HeavyReturners; heavy > 0 {
		p.heavyRate = heavyRequests / knobs.heavy.share / heavy / years
	} else {
		heavyRequests = 0
	}
	outages := l.OutagesPerYear * years * float64(p.outageSize())
	ordinary := max(p.requests*(1-c.FraudShare)-heavyRequests-outages, 0)
	unseen := 1 - min(5/float64(c.Days), 0.3)                                          // requests that would come after the end
	newcomers := (1 - knobs.base.oldCustomers) * min(30/float64(c.Days), 1) / exposure // share of the payments
	p.honestRequest = min(ordinary/payments/unseen/(1+newcomers*(knobs.base.newcomerRequests-1)), 0.5)
	if ordinary > 0 {
		p.newPhone = min(l.NewPhoneRequests*p.requests/ordinary*1.04, 1)
		p.own = min(l.OwnAccountRequests*p.requests/ordinary*1.15, 1)
	}
}

// outageSize is the number of requests that one outage brings.
func (p *plan) outageSize() int {
	perYear := p.requests / float64(p.config.Days) * 365
	size := int(min(max(p.config.LookAlikes.OutageRequests*perYear, 20), 900))
	return min(size, p.config.Customers/10)
}

func (p *plan) sharedOwner() int {
	p.sharedSeq++
	return sharedOwner + p.sharedSeq
}

func (p *plan) market() {
	p.carriers = p.config.Customers/40 + 4
	p.foreign = slices.DeleteFunc([]string{"EUR", "GBP", "USD"}, func(code string) bool { return code == p.config.Currency })
	for i := range 40 + p.config.Customers/300 {
		m := merchant{id: p.ids.id("m_", p.sharedOwner(), 0), deposit: i%2 == 0, country: p.d.pick(countries), price: p.d.lognormal(1, 0.4)}
		m.reports = p.d.chance(knobs.base.trackedGoods)
		if m.deposit {
			m.reports = p.d.chance(knobs.base.bookedDeposits)
		}
		p.merchants = append(p.merchants, m)
	}
	for range 12 + p.config.Customers/2000 {
		p.employees = append(p.employees, p.ids.id("e_", p.sharedOwner(), 0))
	}
	n := p.d.about(p.config.LookAlikes.OutagesPerYear * float64(p.config.Days) / 365)
	for range n {
		at := p.d.span(p.start+vaglio.Day, p.config.Until-vaglio.Day)
		at += 9*vaglio.Hour - at%vaglio.Day + p.d.span(0, 10*vaglio.Hour)
		p.outages = append(p.outages, outage{at: at, merchant: p.merchant(p.d, p.d.chance(0.5)), ip: p.ids.ip(p.sharedOwner(), 0)})
	}
}

// merchant picks one by popularity, which falls with its number.
func (p *plan) merchant(d draw, deposit bool) int {
	half := len(p.merchants) / 2
	x := d.Float64()
	i := 2 * int(x*x*float64(half))
	if !deposit {
		i++
	}
	return i
}

// cast gives a free customer a part.
func (p *plan) cast(r role) error {
	if len(p.free) == 0 {
		return errTooFew
	}
	p.roles[p.free[0]] = &r
	p.free = p.free[1:]
	return nil
}

func (p *plan) heavyReturners() error {
	for range p.d.about(float64(p.config.Customers) * p.config.LookAlikes.HeavyReturners) {
		k := knobs.heavy
		share := min(p.d.lognormal(k.share*math.Exp(-k.spread*k.spread/2), k.spread), 0.5)
		if err := p.cast(role{heavy: true, share: share}); err != nil {
			return err
		}
	}
	return nil
}

// target is the expected number of requests of a pattern.
func (p *plan) target(pattern Pattern) float64 {
	total := 0.0
	for _, w := range p.config.Patterns {
		total += w
	}
	if total == 0 {
		return 0
	}
	return p.requests * p.config.FraudShare * p.config.Patterns[pattern] / total
}

// moment is uniform over the history, but for its first twentieth and its last hours.
func (p *plan) moment() vaglio.Instant {
	return p.d.span(p.start+(p.config.Until-p.start)/20, p.config.Until-6*vaglio.Hour)
}

func (p *plan) frauds() error {
	for _, plan := range []struct {
		pattern Pattern
		cast    func(target float64) error
	}{
		{SerialRefunder, p.serialRefunders},
		{AccountTakeover, p.takeovers},
		{MuleDeposit, p.mules},
		{DeviceRing, p.rings},
		{NotReceivedAbuse, p.actors(NotReceivedAbuse, knobs.received.perActor)},
		{SpentDisowned, p.actors(SpentDisowned, knobs.spent.perActor)},
		{DoubleDip, p.actors(DoubleDip, knobs.dip.perActor)},
		{Insider, p.insiders},
	} {
		if err := plan.cast(p.target(plan.pattern)); err != nil {
			return fmt.Errorf("pattern %s: %w", plan.pattern, err)
		}
	}
	return nil
}

func (p *plan) serialRefunders(target float64) error {
	k := knobs.serial
	length := p.config.Until - p.start
	for left := p.d.about(target); left > 0; {
		n := min(p.d.whole(k.requests[0], k.requests[1]), left)
		left -= n
		months := p.d.between(k.months[0], k.months[1]) * float64(n) / float64(k.requests[1])
		span := min(hours(max(months, k.months[0]/2)*30*24), length*8/10)
		at := p.d.span(p.start+length/20, p.config.Until-span)
		if err := p.cast(role{pattern: SerialRefunder, at: at, end: at + span, requests: n}); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) takeovers(target float64) error {
	k := knobs.takeover
	var device, ip string
	for range p.d.about(target / (1 + k.second)) {
		if device == "" || !p.d.chance(k.reusedDevice) {
			owner := p.sharedOwner()
			device, ip = p.ids.id("d_", owner, 0), p.ids.ip(owner, 0)
		}
		if err := p.cast(role{pattern: AccountTakeover, at: p.moment(), device: device, ip: ip}); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) mules(target float64) error {
	k := knobs.mule
	left, group := 0, role{}
	for range p.d.about(target / (1 + 0.25*k.second)) {
		if left == 0 {
			left = p.d.whole(k.groups[0], k.groups[1])
			owner := p.sharedOwner()
			group = role{pattern: MuleDeposit, at: p.moment(), payout: p.ids.instrument("sct_inst", owner, 0),
				device: p.ids.id("d_", owner, 0), ip: p.ids.ip(owner, 0)}
		}
		left--
		r := group
		r.at = min(r.at+p.d.span(0, 45*vaglio.Day), p.config.Until-p.d.span(vaglio.Hour, 10*vaglio.Day))
		if err := p.cast(r); err != nil {
			return err
		}
	}
	return nil
}

// ringStart is where the first half-year ends (or the first half of a shorter history): no ring before.
func (p *plan) ringStart() vaglio.Instant {
	return p.start + min(183*vaglio.Day, (p.config.Until-p.start)/2)
}

func (p *plan) rings(target float64) error {
	k := knobs.ring
	const fewest, most = 5, 40
	perAccount := k.takesPart * (1 + k.secondBurst*0.7)
	var sizes []int
	for target > 0 {
		size := int(min(max(p.d.lognormal(k.accountsMedian, k.accountsSigma), fewest), most))
		if wanted := target / perAccount; float64(size) > wanted {
			if size = p.d.about(wanted); size < fewest {
				if !p.d.chance(wanted / fewest) {
					break
				}
				size = fewest
			}
		}
		target -= float64(size) * perAccount
		sizes = append(sizes, size)
	}
	first, last := p.ringStart(), p.config.Until-vaglio.Day
	for i, size := range sizes { // spread evenly, in random order of size, so that every part of the time has some
		share := (last - first) / vaglio.Instant(len(sizes))
		r := p.newRing(size, first+vaglio.Instant(i)*share+p.d.span(0, share))
		for slot := range size {
			if err := p.cast(role{pattern: DeviceRing, at: r.bursts[0].at, ring: r, slot: slot}); err != nil {
				return err
			}
		}
	}
	return nil
}

// newRing plans one whose first burst comes at the given moment.
func (p *plan) newRing(size int, at vaglio.Instant) *ring {
	k := knobs.ring
	r := &ring{}
	owner := p.sharedOwner()
	for i := range max(1, size/k.accountsPerDevice) {
		r.devices = append(r.devices, p.ids.id("d_", owner, i))
	}
	for i := range max(1, size/k.accountsPerIP) {
		r.ips = append(r.ips, p.ids.ip(owner, i))
	}
	for i := range max(1, size/k.accountsPerAddress) {
		r.addresses = append(r.addresses, p.ids.id("a_", owner, i))
		r.payouts = append(r.payouts, p.ids.instrument("sct_inst", owner, i))
	}
	for i := 0; i == 0 || i == 1 && p.d.chance(k.secondBurst); i++ {
		r.bursts = append(r.bursts, burst{at: at, length: min(p.d.hours(k.burst), 24*vaglio.Hour), labelAt: at + p.d.days(patterns[DeviceRing].delay)})
		at += p.d.span(18*vaglio.Day, 45*vaglio.Day)
	}
	return r
}

// actors casts customers who do it a few times each.
func (p *plan) actors(pattern Pattern, each [2]int) func(float64) error {
	return func(target float64) error {
		for left := p.d.about(target); left > 0; {
			n := min(p.d.whole(each[0], each[1]), left)
			left -= n
			if err := p.cast(role{pattern: pattern, at: p.moment(), requests: n}); err != nil {
				return err
			}
		}
		return nil
	}
}

func (p *plan) insiders(target float64) error {
	k := knobs.insider
	n := p.d.about(target)
	if n == 0 {
		return nil
	}
	employees := p.employees[:min(len(p.employees), min(2, 1+n/8))]
	owner := p.sharedOwner()
	labels := map[vaglio.Instant]vaglio.Instant{}
	for range n {
		at := late(p.d, p.moment())
		batch := (at - p.start) / hours(24*k.batchDays)
		if _, known := labels[batch]; !known {
			labels[batch] = p.start + (batch+1)*hours(24*k.batchDays) + p.d.days(k.found)
		}
		if err := p.cast(role{pattern: Insider, at: at, employee: employees[p.d.IntN(len(employees))],
			payout: p.ids.instrument("sct_inst", owner, p.d.IntN(k.payouts)), labelAt: labels[batch]}); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) outageVictims() error {
	size := p.outageSize()
	for i := range p.outages {
		if len(p.free) < size {
			return errTooFew
		}
		for _, customer := range p.free[:size] {
			p.affected[customer] = int32(i)
		}
		p.free = p.free[size:]
	}
	return nil
}

// householdMembers groups honest customers; having a household is no part of its own, so they stay free.
func (p *plan) householdMembers() error {
	n := p.d.about(float64(p.config.Customers) * p.config.LookAlikes.HouseholdCustomers)
	if n > len(p.free) {
		return errTooFew
	}
	for at := 0; at < n; {
		owner := int32(p.sharedOwner())
		for range min(p.d.whole(2, 6), n-at) {
			p.households[p.free[at]] = owner
			at++
		}
	}
	return nil
}

// late shifts a time of day to the late shift, 20:00 to 02:00.
func late(d draw, at vaglio.Instant) vaglio.Instant {
	return at - at%vaglio.Day + d.span(20*vaglio.Hour, 26*vaglio.Hour)
}
